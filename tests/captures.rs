//! Captures in any order, and the same request in any spelling.

mod support;

use std::cell::Cell;

use support::sql::{Database, refusal, rows, value};

const ANSWERS: &str = r#"[{"id": "openai", "name": "OpenAI", "api_pattern": "https://api",
    "extractors": [{"api_flavor": "chat", "root": "usage", "mappings": [
        {"path": "prompt_tokens", "dest": "input_tokens", "required": true},
        {"path": "completion_tokens", "dest": "output_tokens", "required": true}]}],
    "models": [{"id": "gpt-4o", "match": {"equals": "gpt-4o"}, "prices": {"input_mtok": 2.5, "output_mtok": 10}}]}]"#;

const CHAT: &str = r#"{"match": [{"when": {"model": "gpt-4o"}, "price": {"meters": {
    "input_tokens": {"per": 1000, "credits": "0.1"}, "output_tokens": {"per": 1000, "credits": "0.25"}}}}]}"#;

/// Numbers that are the same in every run.
struct Dice(Cell<u64>);

impl Dice {
    fn below(&self, end: u64) -> u64 {
        let next = self
            .0
            .get()
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0.set(next);
        (next >> 33) % end
    }

    fn one_of<'a>(&self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len() as u64) as usize]
    }
}

/// The totals that a capture passes: none that can be read, or input and output tokens.
#[derive(Clone, Copy, PartialEq)]
enum Totals {
    Nothing,
    Usage(u64, u64),
    Dimensions(u64, u64),
}

impl Totals {
    fn any(dice: &Dice) -> Totals {
        let (input, output) = (dice.below(40) * 250, dice.below(40) * 250);
        match dice.below(4) {
            0 => Totals::Nothing,
            1 => Totals::Dimensions(input, output),
            _ => Totals::Usage(input, output),
        }
    }

    fn arguments(self) -> String {
        match self {
            Totals::Nothing => {
                r#"usage => '{"vendor": "openai", "model": "gpt-4o", "body": {"usage": null}}'"#
                    .to_owned()
            }
            Totals::Usage(input, output) => format!(
                r#"usage => '{{"vendor": "openai", "model": "gpt-4o", "body": {{"usage": {{"prompt_tokens": {input}, "completion_tokens": {output}}}}}}}'"#
            ),
            Totals::Dimensions(input, output) => format!(
                r#"dimensions => '{{"input_tokens": {input}, "output_tokens": {output}.0}}'"#
            ),
        }
    }

    /// In hundredths of a credit, rounded up: 0.1 and 0.25 for a thousand.
    fn price(self) -> Option<u64> {
        match self {
            Totals::Nothing => None,
            Totals::Usage(input, output) | Totals::Dimensions(input, output) => {
                Some((input * 10 + output * 25).div_ceil(1000))
            }
        }
    }

    /// In 10^-7 of money: 2.5 and 10 for a million.
    fn cost(self) -> Option<u64> {
        match self {
            Totals::Usage(input, output) => Some(input * 25 + output * 100),
            _ => None,
        }
    }
}

#[test]
fn captures_in_any_order_charge_the_highest_totals() {
    let database = Database::new("captures");
    let mut client = database.connect();
    let set_up = format!(
        "SELECT credyt.create_asset('credits'), credyt.set_price('chat', '{CHAT}'),
             credyt.import_vendor_rates('{ANSWERS}'), credyt.grant_credits('ann', 1000000, paid => 1000)"
    );
    rows(&mut client, &set_up);
    let dice = Dice(Cell::new(7));
    for round in 0..60 {
        let id = value(
            &mut client,
            r#"SELECT id FROM credyt.authorize('ann', 'chat', dimensions => '{"model": "gpt-4o", "input_tokens": 1000, "output_tokens": 8000}')"#,
        );
        let hold = 210;
        let (mut charged, mut cost, mut last) = (0, 0, Totals::Nothing);
        let count = 1 + dice.below(6);
        for nth in 1..=count {
            last = Totals::any(&dice);
            let keep_open = nth < count;
            let arguments = last.arguments();
            let capture = format!(
                "SELECT credits FROM credyt.capture('ann', '{id}', {arguments}, keep_open => {keep_open})"
            );
            let first = value(&mut client, &capture);
            // However often it is repeated.
            for _ in 0..dice.below(3) {
                assert_eq!(value(&mut client, &capture), first, "{round} {capture}");
            }
            let wanted = last
                .price()
                .unwrap_or(if keep_open { charged } else { hold });
            charged = charged.max(wanted);
            cost = cost.max(last.cost().unwrap_or(0));
            let sums = format!(
                "SELECT (-100 * sum(credits))::int || ' ' || coalesce((10000000 * sum(cost))::int, 0)
                 FROM credyt.ledger WHERE authorization_id = '{id}'"
            );
            assert_eq!(
                value(&mut client, &sums),
                format!("{charged} {cost}"),
                "{round} {capture}"
            );
        }
        let uncosted = format!(
            "SELECT count(*) FROM credyt.uncosted_usage u JOIN credyt.ledger l ON l.id = u.debit_id WHERE l.authorization_id = '{id}'"
        );
        let uncosted = value(&mut client, &uncosted);
        match last {
            Totals::Nothing => assert_eq!(uncosted, "1", "{round}"),
            Totals::Usage(..) => assert_eq!(uncosted, "0", "{round}"),
            Totals::Dimensions(..) => {}
        }
    }
    assert_eq!(database.broken_invariants(), Vec::<String>::new());
}

/// A request to spend: what is compared, each in several spellings.
struct Spend {
    parts: Vec<(&'static str, Vec<&'static str>)>,
}

impl Spend {
    fn new() -> Spend {
        Spend {
            parts: vec![
                (
                    "quantity",
                    vec!["2", "2.0", "2.00000000000000000001", "2e0"],
                ),
                (
                    "dimensions",
                    vec![
                        r#"'{"model": "gpt-4o", "input_tokens": 100, "list": [1.50, {"a": 1}]}'"#,
                        r#"'{"list": [1.5, {"a": 1.0}], "input_tokens": 1e2, "model": "gpt-4o"}'"#,
                        r#"'{"input_tokens": 100.00000000000000000000000000000000000001, "model": "gpt-4o", "list": [1.500, {"a": 1}]}'"#,
                    ],
                ),
                ("cost", vec!["0.3", "0.30", "0.30000000000000004"]),
                (
                    "usage",
                    vec![
                        r#"'{"vendor": "openai", "model": "gpt-4o", "body": {"usage": {"prompt_tokens": 10, "completion_tokens": 2}}}'"#,
                        r#"'{"body": {"usage": {"completion_tokens": 2.0, "prompt_tokens": 10}}, "model": "gpt-4o", "vendor": "openai"}'"#,
                    ],
                ),
                (
                    "scopes",
                    vec![
                        "'{user:a,key:k}'",
                        "'{key:k,user:a}'",
                        "'{key:k,user:a,key:k}'",
                    ],
                ),
            ],
        }
    }

    /// Any spelling of it; where `other` is the place of a part, of another request.
    fn arguments(&self, dice: &Dice, other: Option<usize>) -> String {
        let others = [
            "3",
            r#"'{"model": "gpt-4o", "input_tokens": "100", "list": [1.5, {"a": 1}]}'"#,
            "0.31",
            r#"'{"vendor": "openai", "model": "gpt-4o", "body": {"usage": {"prompt_tokens": 11, "completion_tokens": 2}}}'"#,
            "'{user:a}'",
        ];
        let part = |(place, (name, spellings)): (usize, &(&str, Vec<&str>))| match other {
            Some(other) if other == place => format!("{name} => {}", others[place]),
            _ => format!("{name} => {}", dice.one_of(spellings)),
        };
        let parts: Vec<String> = self.parts.iter().enumerate().map(part).collect();
        parts.join(", ")
    }
}

#[test]
fn a_key_knows_its_request_in_any_spelling() {
    let database = Database::new("spellings");
    let mut client = database.connect();
    let set_up = format!(
        "SELECT credyt.create_asset('credits'), credyt.set_price('chat', '{CHAT}'),
             credyt.import_vendor_rates('{ANSWERS}'), credyt.grant_credits('ann', 1000000, paid => 1000)"
    );
    rows(&mut client, &set_up);
    let (dice, spend) = (Dice(Cell::new(11)), Spend::new());
    for function in ["debit_credits", "authorize"] {
        for round in 0..15 {
            let call = |other| {
                format!(
                    "SELECT replayed FROM credyt.{function}('ann', 'chat', {}, idempotency_key => '{function} {round}')",
                    spend.arguments(&dice, other)
                )
            };
            assert_eq!(value(&mut client, &call(None)), "f");
            for _ in 0..5 {
                let again = call(None);
                assert_eq!(value(&mut client, &again), "t", "{again}");
            }
            let other = call(Some(dice.below(5) as usize));
            assert_eq!(refusal(&mut client, &other).code, "WC005", "{other}");
        }
    }
    assert_eq!(database.broken_invariants(), Vec::<String>::new());
}
