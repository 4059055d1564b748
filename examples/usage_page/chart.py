"""Usage by day and action, as stacked bars: what to draw where, without a line of HTML."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, Decimal, localcontext

COLOURS = 5  # actions with a colour of their own; the others share one
OTHERS = "all others"


@dataclass(frozen=True)
class Bar:
    """In days from the left, and in hundredths of the height from the top."""

    x: float
    y: float
    height: float
    colour: int
    day: date
    action: str
    credits: Decimal


@dataclass(frozen=True)
class Chart:
    days: list[date]
    actions: list[str]  # in the order of their colours
    credits: dict[date, dict[str, Decimal]]
    totals: dict[date, Decimal]
    ticks: list[Decimal]  # evenly spaced, from the top
    bars: list[Bar]

    def height_of(self, credits: Decimal) -> float:
        return float(100 * (self.ticks[0] - credits) / (self.ticks[0] - self.ticks[-1]))


def chart(totals: dict[date, Decimal], used: Iterable[tuple[date, str, Decimal]]) -> Chart:
    """Of every day's total, zeros included, and of what each action used on the days on which there was some."""
    with localcontext(prec=60):  # exact: amounts have at most 28 digits
        by_action: dict[str, Decimal] = {}
        used = list(used)
        for _, action, credits in used:
            by_action[action] = by_action.get(action, Decimal(0)) + credits
        actions = sorted(by_action, key=lambda action: (-by_action[action], action))
        if len(actions) > COLOURS + 1:
            actions = [*actions[:COLOURS], OTHERS]
        rows = {day: dict.fromkeys(actions, Decimal(0)) for day in totals}
        for day, action, credits in used:
            rows[day][action if action in rows[day] else OTHERS] += credits

        # More may be refunded on a day than is used: such bars hang below zero.
        tops = [sum((c for c in row.values() if c > 0), Decimal(0)) for row in rows.values()]
        bottoms = [sum((c for c in row.values() if c < 0), Decimal(0)) for row in rows.values()]
        drawn = Chart(list(totals), actions, rows, totals, ticks(min(bottoms), max(tops)), [])
        for x, (day, row) in enumerate(rows.items()):
            top = bottom = Decimal(0)
            for colour, action in enumerate(actions):
                credits = row[action]
                if credits > 0:
                    start, top = top, top + credits
                    y, end = drawn.height_of(top), drawn.height_of(start)
                elif credits < 0:
                    start, bottom = bottom, bottom + credits
                    y, end = drawn.height_of(start), drawn.height_of(bottom)
                else:
                    continue
                drawn.bars.append(Bar(x, y, end - y, colour, day, action, credits))
        return drawn


def ticks(least: Decimal, most: Decimal) -> list[Decimal]:
    """Round numbers from above most down to below least, at most six, 0 among them."""
    span = most - least
    if span == 0:
        return [Decimal(1), Decimal(0)]
    power = Decimal(1).scaleb(span.adjusted() - 1)
    for factor in (1, 2, 5, 10, 20, 50):
        step = power * factor
        above, below = ceiling(most / step), ceiling(-least / step)
        if above + below <= 5:
            break
    return [step * n for n in range(above, -below - 1, -1)]


def ceiling(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_CEILING))
