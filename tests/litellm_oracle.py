"""What calls cost by LiteLLM's file of prices, summed up field by field, for tests/vendors.rs to compare with.

  litellm_oracle.py <file> <calls a model> <seed>   generated calls with their prices, one JSON object a line

Written from LiteLLM's own program (litellm_core_utils/llm_cost_calc), without importing it.
"""

import json
import random
import re
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

INPUT, OUTPUT = "input_cost_per_token", "output_cost_per_token"
READ, WRITE = "cache_read_input_token_cost", "cache_creation_input_token_cost"
WRITE_1H, REASONING = WRITE + "_above_1hr", "output_cost_per_reasoning_token"
# What is not counted in tokens, by the unit's name in a usage.
OTHERS = {
    "input_cost_per_character": "input_characters",
    "output_cost_per_character": "output_characters",
    "input_cost_per_second": "input_seconds",
    "output_cost_per_second": "output_seconds",
    "input_cost_per_audio_per_second": "input_audio_seconds",
    "output_cost_per_video_per_second": "output_video_seconds",
    "input_cost_per_image": "input_images",
    "output_cost_per_image": "output_images",
    "input_cost_per_pixel": "input_pixels",
    "output_cost_per_pixel": "output_pixels",
    "input_cost_per_query": "queries",
    "ocr_cost_per_page": "pages",
    "annotation_cost_per_page": "annotated_pages",
}
THRESHOLD = re.compile(r"(?:_[a-z]+)?_above_(\d+)(k?)_tokens(?:_[a-z]+)?$")
TIERS = {"batch": "batches", "priority": "priority", "flex": "flex", "ultrafast": "ultrafast", "balanced": "balanced"}


def exact(price):
    """A float as it is printed, to the 15 digits that it is good for."""
    number = Decimal(repr(price))
    return number if len(number.as_tuple().digits) <= 15 else Decimal(f"{number:.14e}")


class Call:
    def __init__(self, vendor, fields, tier, at, all_input):
        self.fields, self.tier, self.at, self.all_input = fields, TIERS.get(tier), at, all_input
        self.inclusive = vendor == "xai"
        self.off_peak = fields["off_peak_pricing"] if is_off_peak(fields.get("off_peak_pricing"), at) else {}
        self.priced_tier = None
        tiers = [tier for tier in fields.get("tiered_pricing") or [] if "range" in tier]
        for one in sorted(tiers, key=lambda one: one["range"][0]):
            if self.priced_tier is None or all_input > one["range"][0]:
                self.priced_tier = one

    def rate(self, field, *around):
        """The price of a token, its own or that of what it is a part of; None where there is none."""
        if self.off_peak.get(field) is not None:
            return exact(self.off_peak[field])
        if self.priced_tier and not (field in (OUTPUT, REASONING) and OUTPUT not in self.priced_tier):
            if field in self.priced_tier:
                return exact(self.priced_tier[field])
        else:
            found = self.flat(field)
            own_output = self.tier and f"{OUTPUT}_{self.tier}" in self.fields
            if field == REASONING and own_output and f"{REASONING}_{self.tier}" not in self.fields:
                found = None
            if found is not None:
                return exact(found)
        return self.rate(*around) if around else None

    def flat(self, field):
        suffix = f"_{self.tier}" if self.tier else ""
        above = {}
        for name in self.fields:
            if not name.startswith(field) or "_above_" not in name:
                continue
            if (found := THRESHOLD.match(name[len(field):])) and name in (
                f"{field}_above_{found[1]}{found[2]}_tokens",
                f"{field}_above_{found[1]}{found[2]}_tokens{suffix}",
                f"{field}{suffix}_above_{found[1]}{found[2]}_tokens",
            ):
                if self.tier == "batches" and not name.endswith("_batches") and f"{field}_batches" in self.fields:
                    continue
                threshold = int(found[1]) * (1000 if found[2] else 1)
                is_own = bool(suffix) and suffix in name
                if above.get(threshold, (None, False))[1] <= is_own:
                    above[threshold] = (self.fields[name], is_own)
        for threshold in sorted(above, reverse=True):
            if self.all_input > threshold or (self.inclusive and self.all_input == threshold):
                return above[threshold][0]
        own = self.fields.get(field + suffix)
        return self.fields.get(field) if own is None else own


def is_off_peak(block, at):
    if not block:
        return False
    day = at.astimezone(ZoneInfo(block.get("weekday_timezone") or "UTC")).isoweekday()
    for window in block["windows"]:
        hours = window["hours_utc"] if isinstance(window["hours_utc"], list) else [window["hours_utc"]]
        for start, end in (one.split("-") for one in hours):
            now = at.strftime("%H:%M")
            inside = start <= now < end if start < end else now >= start or now < end
            if day in window["weekdays"] and inside:
                return True
    return False


def one(vendor, name, fields, chance):
    tiers = [tier for tier, word in TIERS.items() if f"{INPUT}_{word}" in fields and f"{OUTPUT}_{word}" in fields]
    tier = chance.choice([None, *tiers])
    at = datetime(2026, 11, 1, tzinfo=timezone.utc) + timedelta(minutes=chance.randrange(24 * 1440))
    big = chance.choice([100, 10_000, 128_000, 200_000, 200_001, 272_001, 1_000_000])
    price, usage = Decimal(0), {}
    if INPUT in fields or any("range" in tier for tier in fields.get("tiered_pricing") or []):
        read, write, hour = (chance.choice([0, 0, chance.randrange(big // 4)]) for _ in range(3))
        plain, out = chance.randrange(1, big), chance.randrange(big)
        thought = chance.choice([0, chance.randrange(out + 1)])
        if tier == "batch" and f"{READ}_batches" not in fields:
            read = write = hour = 0
        call = Call(vendor, fields, tier, at, plain + read + write + hour)
        rates = [call.rate(INPUT), call.rate(READ, INPUT), call.rate(WRITE, INPUT), call.rate(WRITE_1H, WRITE, INPUT)]
        price += sum(count * rate for count, rate in zip([plain, read, write, hour], rates))
        if not (output := call.rate(OUTPUT)):
            out = thought = 0
        else:
            price += (out - thought) * output + thought * call.rate(REASONING, OUTPUT)
        price += exact(fields.get("input_cost_per_request", 0))
        usage = shape(plain, read, write, hour, out, thought, chance)
    else:
        for field, unit in OTHERS.items():
            # The vendor gives some images away, and does not say which.
            if field == "input_cost_per_image" and "minimax_free_input_images" in fields.get("provider_specific_entry", {}):
                continue
            if fields.get(field) is not None and not any(key.startswith(field + "_") for key in fields):
                count = chance.randrange(1, 100)
                usage[unit] = count
                price += count * exact(fields[field])
        if not usage:
            return None
        tier = None
    context = {} if tier is None else {"service_tier": tier}
    entry = fields.get("provider_specific_entry") or {}
    for key, value in ("inference_geo", "us"), ("speed", "fast"):
        if value in entry and chance.random() < 0.5:
            context[key] = value
            price *= exact(entry[value])
    return {"vendor": vendor, "model": name, "usage": usage, "at": at.isoformat(), "context": context, "price": str(price)}


def shape(plain, read, write, hour, out, thought, chance):
    """The counts as one of the vendors would tell them."""
    kind = chance.choice(["units", "chat", "messages"])
    if kind == "chat" and not write and not hour:
        return {
            "prompt_tokens": plain + read,
            "completion_tokens": out,
            "total_tokens": plain + read + out,
            "prompt_tokens_details": {"cached_tokens": read},
            "completion_tokens_details": {"reasoning_tokens": thought},
        }
    if kind == "messages":
        return {
            "input_tokens": plain,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": write + hour,
            "cache_creation": {"ephemeral_5m_input_tokens": write, "ephemeral_1h_input_tokens": hour},
            "output_tokens": out,
            "output_tokens_details": {"thinking_tokens": thought},
        }
    return {
        "input_tokens": plain + read + write + hour,
        "cache_read_tokens": read,
        "cache_write_tokens": write + hour,
        "cache_write_1h_tokens": hour,
        "output_tokens": out,
        "output_reasoning_tokens": thought,
    }


def main(file, calls, seed):
    with open(file) as opened:
        models = json.load(opened)
    chance = random.Random(int(seed))
    for name, fields in models.items():
        while isinstance(fields, dict) and "alias_of" in fields:
            fields = models[fields["alias_of"]]
        if name == "sample_spec" or "litellm_provider" not in fields:
            continue
        fields = {key: value for key, value in fields.items() if value is not None}
        for _ in range(int(calls)):
            if call := one(fields["litellm_provider"], name, fields, chance):
                print(json.dumps(call))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
