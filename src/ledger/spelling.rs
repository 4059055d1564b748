//! Which known name was meant by an unknown one.

/// The name that is nearest to a misspelt one: by the edits between them and how they begin, case and
/// underscores aside. A name that holds the other is nearer than any that does not (`key` means
/// `idempotency_key`).
pub fn nearest<'n>(given: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let given = letters(given);
    let distance = |name: &&str| {
        let name = letters(name);
        let within = given.len() > 1 && contains(&name, &given) || contains(&given, &name);
        let begins = given.iter().zip(&name).take_while(|(a, b)| a == b).count();
        // Two names have at most 64 letters in common.
        (!within, 128 + edits(&given, &name) - 2 * begins)
    };
    known.min_by_key(distance)
}

/// At most 64 characters decide.
fn letters(name: &str) -> Vec<char> {
    let kept = name.chars().filter(|c| c.is_alphanumeric());
    kept.flat_map(char::to_lowercase).take(64).collect()
}

fn contains(text: &[char], part: &[char]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

/// How many characters have to be added, taken away or replaced.
fn edits(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.iter().enumerate() {
        let mut previous = at + 1;
        let mut next = vec![previous];
        for (pair, b) in row.windows(2).zip(other) {
            let [diagonal, above] = [pair[0], pair[1]];
            previous = (diagonal + usize::from(a != b))
                .min(above + 1)
                .min(previous + 1);
            next.push(previous);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name() {
        let known = || {
            [
                "customer",
                "action",
                "quantity",
                "dimensions",
                "cost",
                "credits",
                "asset",
                "idempotency_key",
                "occurred_at",
            ]
            .into_iter()
        };
        for (given, meant) in [
            ("custmer", "customer"),
            ("Customer", "customer"),
            ("customer_id", "customer"),
            ("idempotencyKey", "idempotency_key"),
            ("key", "idempotency_key"),
            ("occuredAt", "occurred_at"),
            ("credit", "credits"),
            ("quantité", "quantity"),
            ("assets", "asset"),
            ("dims", "dimensions"),
        ] {
            assert_eq!(nearest(given, known()), Some(meant), "{given}");
        }
        assert_eq!(nearest("x", std::iter::empty()), None);
        for odd in ["", "🦀", "x", &"long".repeat(100_000)] {
            assert!(nearest(odd, known()).is_some());
        }
    }
}
