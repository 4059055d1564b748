//! An example for each invariant: the cases a reader would ask about.

use uuid::Uuid;

use crate::ledger::plan::{PeriodGrant, PlanPeriod, Renewal, Rollover};
use crate::ledger::wallet::{
    Debt, EndedHold, EntryKind, MAX_GRANTS, Overrun, Part, PendingEntry, Pin, Shortfall, WalletFull,
};
use crate::ledger::{Amount, Grant, Kind, Moment, Wallet};

const NOW: Moment = Moment(0);
const NO_LIMIT: Amount = Amount::ZERO;

fn at(seconds: i64) -> Moment {
    Moment(seconds * 1_000_000)
}

fn credits(text: &str) -> Amount {
    Amount::parse(text).unwrap()
}

/// A bought grant without end, for all actions.
fn grant(n: u128, remaining: &str, paid: &str) -> Grant {
    Grant {
        id: Uuid::from_u128(n),
        kind: Kind::Purchased,
        priority: 100,
        effective_at: NOW,
        expires_at: None,
        applies_to: None,
        revoked: false,
        remaining: credits(remaining),
        held: Amount::ZERO,
        waiting: Amount::ZERO,
        deferred: credits(paid),
    }
}

fn wallet<const N: usize>(grants: [Grant; N]) -> Wallet {
    let mut wallet = Wallet::new(NOW);
    for grant in grants {
        wallet.issue(grant).unwrap();
    }
    wallet
}

fn owes(n: u128, owed: &str) -> Debt {
    Debt {
        id: Uuid::from_u128(n),
        action: Some("image".to_owned()),
        owed: credits(owed),
    }
}

/// "grant 1 gave 5 for 0.5, overdraft gave 2"
fn said(parts: &[Part]) -> String {
    let say = |part: &Part| match part.grant {
        Some((id, _)) => {
            format!(
                "grant {} gave {} for {}",
                id.as_u128(),
                part.credits,
                part.revenue
            )
        }
        None => format!("overdraft gave {}", part.credits),
    };
    parts.iter().map(say).collect::<Vec<_>>().join(", ")
}

/// "at 10 expired: grant 1 gave 5 for 0.5"
fn happened(due: &[PendingEntry]) -> String {
    let say = |due: &PendingEntry| {
        let (what, part) = match &due.what {
            EntryKind::Expired(part) => ("expired".to_owned(), part),
            EntryKind::Revoked(part) => ("revoked".to_owned(), part),
            EntryKind::Moved { part, to } => (format!("moved to {}", to.as_u128()), part),
            EntryKind::Renewed { part, plan } => (format!("{plan} renewed"), part),
            EntryKind::Settled { debt, part, .. } => {
                (format!("paid debt {}", debt.as_u128()), part)
            }
        };
        format!(
            "at {} {what}: {}",
            due.at.0 / 1_000_000,
            said(std::slice::from_ref(part))
        )
    };
    due.iter().map(say).collect::<Vec<_>>().join("; ")
}

/// "grant 1 has 5, 2 held, 0.5 deferred"
fn state(wallet: &Wallet) -> String {
    let say = |g: &Grant| {
        let id = g.id.as_u128();
        format!(
            "grant {id} has {}, {} held, {} deferred",
            g.remaining, g.held, g.deferred
        )
    };
    wallet
        .grants()
        .iter()
        .map(say)
        .collect::<Vec<_>>()
        .join("; ")
}

fn short(needed: &str, available: &str) -> Shortfall {
    Shortfall {
        needed: credits(needed),
        available: credits(available),
    }
}

#[test]
fn each_criterion_of_the_burn_order_beats_all_that_follow() {
    let criteria: [fn(&mut Grant); 6] = [
        |g| g.priority = 99,
        |g| g.expires_at = Some(at(50)),
        |g| g.applies_to = Some(vec!["image".to_owned()]),
        |g| g.kind = Kind::Promotional,
        |g| g.effective_at = at(-5),
        |g| g.id = Uuid::from_u128(1),
    ];
    for n in 0..criteria.len() {
        let (mut first, mut second) = (grant(2, "1", "0"), grant(3, "1", "0"));
        criteria[n](&mut first);
        for (m, better) in criteria.iter().enumerate() {
            if m < n {
                better(&mut first);
            }
            if m != n {
                better(&mut second);
            }
        }
        let id = first.id;
        for grants in [[first.clone(), second.clone()], [second, first]] {
            let parts = wallet(grants)
                .spend(NOW, "image", credits("1"), NO_LIMIT)
                .unwrap();
            assert_eq!(parts[0].grant.map(|(id, _)| id), Some(id), "criterion {n}");
        }
    }
}

#[test]
fn the_earliest_end_burns_first_and_gifts_before_included_before_bought() {
    let ends = |n, end| Grant {
        expires_at: end,
        ..grant(n, "1", "0")
    };
    let is = |n, kind| Grant {
        kind,
        ..grant(n, "1", "0")
    };
    for mut wallet in [
        wallet([ends(3, None), ends(1, Some(at(10))), ends(2, Some(at(20)))]),
        wallet([
            is(1, Kind::Promotional),
            is(2, Kind::Included),
            is(3, Kind::Purchased),
        ]),
        wallet([
            is(3, Kind::Purchased),
            is(2, Kind::Included),
            is(1, Kind::Promotional),
        ]),
    ] {
        let parts = wallet.spend(NOW, "image", credits("3"), NO_LIMIT).unwrap();
        let gave = [
            "grant 1 gave 1 for 0",
            "grant 2 gave 1 for 0",
            "grant 3 gave 1 for 0",
        ];
        assert_eq!(said(&parts), gave.join(", "));
    }
}

#[test]
fn a_grant_pays_only_while_it_is_live_and_only_for_its_actions() {
    let wallet = wallet([
        Grant {
            effective_at: at(10),
            expires_at: Some(at(20)),
            ..grant(1, "3", "0")
        },
        Grant {
            applies_to: Some(vec!["image.*".to_owned()]),
            ..grant(2, "5", "0")
        },
    ]);
    let available = |second, action| wallet.available(at(second), action, NO_LIMIT).to_string();
    assert_eq!(
        [9, 10, 19, 20].map(|second| available(second, Some("text"))),
        ["0", "3", "3", "0"]
    );
    assert_eq!(available(15, Some("image.upscale")), "8");
    assert_eq!(available(15, None), "8");
}

#[test]
fn pins_survive_the_end_of_their_grant_and_what_returns_is_breakage_then() {
    let mut wallet = wallet([Grant {
        expires_at: Some(at(10)),
        ..grant(1, "10", "1")
    }]);
    let mut pins = wallet.hold(NOW, "image", credits("6"), NO_LIMIT).unwrap();
    let due = wallet.advance(at(20), &[], &mut vec![], &mut []);
    assert_eq!(happened(&due), "at 10 expired: grant 1 gave 4 for 0.4");

    wallet.changed_at = at(20);
    let image = (credits("2"), Overrun::Reject);
    let parts = wallet
        .capture(at(20), "image", image.0, NO_LIMIT, image.1, &mut pins)
        .unwrap();
    assert_eq!(said(&parts), "grant 1 gave 2 for 0.2");
    assert_eq!(happened(&wallet.sweep(at(20))), "");

    let ended = EndedHold {
        id: Uuid::nil(),
        at: at(30),
        pins,
    };
    let due = wallet.advance(at(99), &[ended], &mut vec![], &mut []);
    assert_eq!(happened(&due), "at 30 expired: grant 1 gave 4 for 0.4");
    assert_eq!(state(&wallet), "");
}

#[test]
fn what_falls_due_is_worked_through_in_the_order_of_time() {
    let mut wallet = wallet([
        Grant {
            expires_at: Some(at(30)),
            ..grant(1, "4", "4")
        },
        Grant {
            effective_at: at(20),
            ..grant(2, "3", "3")
        },
        Grant {
            effective_at: at(10),
            expires_at: Some(at(20)),
            ..grant(3, "2", "2")
        },
    ]);
    let pins = wallet.hold(NOW, "image", credits("4"), NO_LIMIT).unwrap();
    wallet.owed = credits("4");
    let mut debts = vec![owes(7, "1"), owes(8, "3")];
    let ended = EndedHold {
        id: Uuid::nil(),
        at: at(40),
        pins,
    };
    let due = wallet.advance(at(50), &[ended], &mut debts, &mut []);
    let story = [
        "at 10 paid debt 7: grant 3 gave 1 for 1",
        "at 10 paid debt 8: grant 3 gave 1 for 1",
        "at 20 paid debt 8: grant 2 gave 2 for 2",
        "at 40 expired: grant 1 gave 4 for 4",
    ];
    assert_eq!(happened(&due), story.join("; "));
    assert_eq!((debts.len(), wallet.owed), (0, Amount::ZERO));
    assert_eq!(state(&wallet), "grant 2 has 1, 0 held, 1 deferred");
}

#[test]
fn a_late_capture_takes_what_is_free_now() {
    let mut wallet = wallet([grant(1, "5", "1")]);
    let pins = wallet.hold(NOW, "image", credits("5"), NO_LIMIT).unwrap();
    let ended = EndedHold {
        id: Uuid::nil(),
        at: at(10),
        pins,
    };
    assert_eq!(wallet.advance(at(20), &[ended], &mut vec![], &mut []), []);
    wallet
        .spend(at(20), "image", credits("3"), NO_LIMIT)
        .unwrap();

    let mut late = |overrun| {
        wallet.capture(
            at(20),
            "image",
            credits("5"),
            NO_LIMIT,
            overrun,
            &mut Vec::new(),
        )
    };
    assert_eq!(late(Overrun::Reject), Err(short("5", "2")));
    assert_eq!(
        said(&late(Overrun::Clamp).unwrap()),
        "grant 1 gave 2 for 0.4"
    );
    assert_eq!(said(&late(Overrun::Overdraft).unwrap()), "overdraft gave 5");
}

#[test]
fn a_hold_of_overdraft_takes_free_credits_first_and_then_owes() {
    let mut wallet = wallet([grant(1, "2", "0")]);
    let limit = credits("10");
    let mut pins = wallet.hold(NOW, "image", credits("8"), limit).unwrap();
    let pinned: Vec<String> = pins.iter().map(|pin| pin.credits.to_string()).collect();
    assert_eq!(
        (pinned, pins[1].grant),
        (vec!["2".to_owned(), "6".to_owned()], None)
    );
    assert_eq!(wallet.held(), credits("8"));
    assert_eq!(wallet.available(NOW, None, limit), credits("4"));

    wallet.issue(grant(2, "3", "0.3")).unwrap();
    let parts = wallet
        .capture(
            NOW,
            "image",
            credits("8"),
            limit,
            Overrun::Reject,
            &mut pins,
        )
        .unwrap();
    assert_eq!(
        said(&parts),
        "grant 1 gave 2 for 0, grant 2 gave 3 for 0.3, overdraft gave 3"
    );
    assert_eq!(
        (wallet.owed, wallet.held_overdraft),
        (credits("3"), credits("0"))
    );
    // What free credits paid in its place is not held any longer.
    assert_eq!(pins, []);
    assert_eq!(wallet.available(NOW, None, limit), credits("7"));
}

#[test]
fn a_grant_pays_the_oldest_debt_first_and_earns_then() {
    let mut wallet = wallet([grant(1, "10", "5")]);
    wallet.owed = credits("12");
    let mut debts = vec![owes(7, "4"), owes(8, "8")];
    let due = wallet.settle(NOW, &mut debts);
    let story = [
        "at 0 paid debt 7: grant 1 gave 4 for 2",
        "at 0 paid debt 8: grant 1 gave 6 for 3",
    ];
    assert_eq!(happened(&due), story.join("; "));
    assert_eq!((debts, wallet.owed), (vec![owes(8, "2")], credits("2")));
    assert_eq!(state(&wallet), "");
}

#[test]
fn grants_pay_the_debts_they_may_pay_in_burn_order() {
    let only = |n, action: &str| Grant {
        applies_to: Some(vec![action.to_owned()]),
        ..grant(n, "5", "0")
    };
    let mut wallet = wallet([only(1, "image*"), only(2, "video"), grant(3, "5", "0")]);
    wallet.owed = credits("11");
    let of_no_action = Debt {
        action: None,
        ..owes(9, "3")
    };
    let mut debts = vec![owes(7, "7"), of_no_action, owes(8, "1")];
    let due = wallet.settle(NOW, &mut debts);
    let story = [
        // What grant 1 cannot pay of an image, the next one for everything does.
        "at 0 paid debt 7: grant 1 gave 5 for 0",
        "at 0 paid debt 7: grant 3 gave 2 for 0",
        // A revocation is for no action, so any grant pays it.
        "at 0 paid debt 9: grant 2 gave 3 for 0",
        "at 0 paid debt 8: grant 3 gave 1 for 0",
    ];
    assert_eq!(happened(&due), story.join("; "));
    assert_eq!((debts, wallet.owed), (vec![], Amount::ZERO));
}

#[test]
fn a_grant_that_may_not_pay_or_is_not_live_pays_no_debt() {
    let limited = Grant {
        applies_to: Some(vec!["video".to_owned()]),
        ..grant(1, "5", "0")
    };
    let future = Grant {
        effective_at: at(1),
        ..grant(1, "5", "0")
    };
    for grant in [limited, future] {
        let mut wallet = wallet([grant]);
        wallet.owed = credits("1");
        assert_eq!(wallet.settle(NOW, &mut vec![owes(7, "1")]), []);
        assert_eq!(wallet.owed, credits("1"));
    }
}

#[test]
fn an_emptied_grant_defers_nothing() {
    let mut wallet = wallet([grant(1, "3", "0.1")]);
    let mut spend = || said(&wallet.spend(NOW, "image", credits("1"), NO_LIMIT).unwrap());
    assert_eq!(spend(), "grant 1 gave 1 for 0.0333333333");
    assert_eq!(
        spend(),
        "grant 1 gave 1 for 0.0333333334",
        "half of what is left, rounded up"
    );
    assert_eq!(
        spend(),
        "grant 1 gave 1 for 0.0333333333",
        "all of what is left"
    );
    assert_eq!(state(&wallet), "");
}

#[test]
fn all_is_all_even_of_nothing() {
    assert_eq!(credits("5").share(Amount::ZERO, Amount::ZERO), credits("5"));
}

#[test]
fn a_refund_gives_back_exactly_the_revenue() {
    let mut wallet = wallet([grant(1, "3", "0.1")]);
    let before = state(&wallet);
    let parts = wallet.spend(NOW, "image", credits("2"), NO_LIMIT).unwrap();
    assert_eq!(said(&parts), "grant 1 gave 2 for 0.0666666667");
    assert!(wallet.restore(Uuid::from_u128(1), parts[0].credits, parts[0].revenue));
    assert_eq!(state(&wallet), before);

    wallet.spend(NOW, "image", credits("3"), NO_LIMIT).unwrap();
    assert!(
        !wallet.restore(Uuid::from_u128(1), credits("3"), credits("0.1")),
        "not open any more"
    );
}

#[test]
fn what_comes_back_to_an_ended_or_revoked_grant_is_gone() {
    let mut wallet = wallet([
        grant(1, "5", "1"),
        Grant {
            expires_at: Some(at(10)),
            ..grant(2, "5", "1")
        },
    ]);
    let pins = wallet.hold(NOW, "image", credits("8"), NO_LIMIT).unwrap();
    let taken = wallet.remove(Uuid::from_u128(1), credits("99")).unwrap();
    assert_eq!(said(&[taken]), "grant 1 gave 2 for 0.4");
    wallet.mark_revoked(Uuid::from_u128(1));
    assert_eq!(wallet.sweep(NOW), []);

    wallet.advance(at(10), &[], &mut vec![], &mut []);
    wallet.unhold(&pins);
    assert_eq!(
        happened(&wallet.sweep(at(11))),
        "at 11 expired: grant 2 gave 5 for 1; at 11 revoked: grant 1 gave 3 for 0.6"
    );
}

#[test]
fn a_capture_takes_from_a_grant_once_whether_pinned_or_free() {
    let mut wallet = wallet([grant(1, "3", "119")]);
    let mut pins = wallet.hold(NOW, "image", credits("1"), NO_LIMIT).unwrap();
    let parts = wallet
        .capture(
            NOW,
            "image",
            credits("2"),
            NO_LIMIT,
            Overrun::Reject,
            &mut pins,
        )
        .unwrap();
    assert_eq!(said(&parts), "grant 1 gave 2 for 79.3333333333");
    assert_eq!(
        (pins.len(), state(&wallet)),
        (0, "grant 1 has 1, 0 held, 39.6666666667 deferred".into())
    );
}

#[test]
fn a_rejected_capture_changes_nothing() {
    let limit = credits("4");
    let mut wallet = wallet([grant(1, "3", "1")]);
    let mut pins = wallet.hold(NOW, "image", credits("5"), limit).unwrap();
    let before = (wallet.clone(), pins.clone());
    let refused = wallet.capture(
        NOW,
        "image",
        credits("8"),
        limit,
        Overrun::Reject,
        &mut pins,
    );
    assert_eq!(refused, Err(short("8", "7")));
    assert_eq!((wallet, pins), before);
}

#[test]
fn above_the_hold_clamp_forgives_and_overdraft_owes() {
    for (overrun, gave, owed) in [
        (
            Overrun::Clamp,
            "grant 1 gave 3 for 0, overdraft gave 4",
            "4",
        ),
        (
            Overrun::Overdraft,
            "grant 1 gave 3 for 0, overdraft gave 7",
            "7",
        ),
    ] {
        let limit = credits("4");
        let mut wallet = wallet([grant(1, "3", "0")]);
        let mut pins = wallet.hold(NOW, "image", credits("1"), limit).unwrap();
        let parts = wallet
            .capture(NOW, "image", credits("10"), limit, overrun, &mut pins)
            .unwrap();
        assert_eq!((said(&parts).as_str(), wallet.owed), (gave, credits(owed)));
        assert_eq!(
            wallet.available(NOW, None, limit),
            Amount::ZERO,
            "never negative"
        );
    }
}

#[test]
fn the_overdraft_of_others_is_not_free() {
    let limit = credits("10");
    let mut wallet = wallet([]);
    wallet.hold(NOW, "image", credits("6"), limit).unwrap();
    wallet.spend(NOW, "image", credits("1"), limit).unwrap();
    assert_eq!(
        wallet.spend(NOW, "image", credits("4"), limit),
        Err(short("4", "3"))
    );
    assert_eq!(
        wallet.hold(NOW, "image", credits("4"), limit),
        Err(short("4", "3"))
    );
}

#[test]
fn zero_credits_are_always_affordable() {
    let mut wallet = wallet([]);
    wallet.owed = credits("5");
    let mut pins = wallet.hold(NOW, "image", Amount::ZERO, NO_LIMIT).unwrap();
    assert_eq!(pins, []);
    assert_eq!(
        wallet.spend(NOW, "image", Amount::ZERO, NO_LIMIT),
        Ok(vec![])
    );
    let nothing = (Amount::ZERO, Overrun::Reject);
    assert_eq!(
        wallet.capture(NOW, "image", nothing.0, NO_LIMIT, nothing.1, &mut pins),
        Ok(vec![])
    );
    assert_eq!(wallet.owed, credits("5"));
}

#[test]
fn a_wallet_takes_1000_grants_and_less_than_1e18_credits() {
    let mut many = Wallet::new(NOW);
    for n in 0..MAX_GRANTS as u128 {
        many.issue(grant(n, "1", "0")).unwrap();
    }
    assert_eq!(
        many.issue(grant(1_000_000, "1", "0")),
        Err(WalletFull::TooManyGrants)
    );
    assert_eq!((many.grants().len(), many.check()), (MAX_GRANTS, Ok(())));

    let mut rich = wallet([grant(1, "999999999999999999", "0")]);
    assert_eq!(
        rich.issue(grant(2, "1", "0")),
        Err(WalletFull::TooManyCredits)
    );
    assert_eq!(rich.issue(grant(2, "0.9999999999", "0")), Ok(()));
    assert_eq!(rich.check(), Ok(()));
}

fn of_period(id: u128) -> PeriodGrant {
    PeriodGrant {
        id: Uuid::from_u128(id),
        moved: 0,
    }
}

/// A period of a plan from 10 to 20 that grants 10 credits for 5; grant 1 is of the one before.
fn renewing(rollover: Option<&str>) -> Renewal {
    let own = Grant {
        kind: Kind::Included,
        effective_at: at(10),
        expires_at: Some(at(20)),
        ..grant(2, "10", "5")
    };
    Renewal {
        subscription: Uuid::from_u128(9),
        scale: 2,
        grants: vec![of_period(1)],
        periods: vec![PlanPeriod {
            plan: "pro".to_owned(),
            first: false,
            starts: at(10),
            ends: at(20),
            grant: Some(own),
            rollover: Rollover {
                most: rollover.map(credits),
                ..Rollover::NOTHING
            },
        }],
        difference: None,
        lapse: None,
        wait_ends: None,
        issued: vec![],
    }
}

#[test]
fn what_is_held_stays_pinned_when_the_rest_rolls_over() {
    let mut wallet = wallet([Grant {
        expires_at: Some(at(10)),
        held: credits("4"),
        ..grant(1, "10", "1")
    }]);
    let ended = EndedHold {
        id: Uuid::from_u128(5),
        at: at(12),
        pins: vec![Pin {
            grant: Some((Uuid::from_u128(1), Kind::Purchased)),
            credits: credits("4"),
        }],
    };
    let mut renewing = [renewing(Some("5"))];
    let due = wallet.advance(at(11), &[], &mut vec![], &mut renewing);
    let rolled = renewing[0].grants[0].id.as_u128();
    assert_eq!(
        happened(&due),
        format!(
            "at 10 moved to {rolled}: grant 1 gave 5 for 0.5; at 10 pro renewed: grant 2 gave 10 for 5; \
             at 10 expired: grant 1 gave 1 for 0.1"
        )
    );
    assert_eq!(
        state(&wallet),
        format!(
            "grant 1 has 4, 4 held, 0.4 deferred; grant 2 has 10, 0 held, 5 deferred; \
             grant {rolled} has 5, 0 held, 0.5 deferred"
        )
    );
    assert_eq!(renewing[0].issued[0].origin, Some(Uuid::from_u128(1)));
    // What the hold returns is too late for the new period.
    wallet.changed_at = at(11);
    let due = wallet.advance(at(12), &[ended], &mut vec![], &mut []);
    assert_eq!(happened(&due), "at 12 expired: grant 1 gave 4 for 0.4");
}

#[test]
fn a_renewal_pays_debt_and_a_debt_may_be_larger() {
    let mut wallet = wallet([]);
    wallet.owed = credits("25");
    let mut debts = vec![owes(7, "5"), owes(8, "20")];
    let mut renewing = [renewing(None)];
    let due = wallet.advance(at(15), &[], &mut debts, &mut renewing);
    assert_eq!(
        happened(&due),
        "at 10 pro renewed: grant 2 gave 10 for 5; at 10 paid debt 7: grant 2 gave 5 for 2.5; \
         at 10 paid debt 8: grant 2 gave 5 for 2.5"
    );
    assert_eq!(debts, [owes(8, "15")]);
    assert_eq!((state(&wallet).as_str(), wallet.owed), ("", credits("15")));
}

#[test]
fn a_period_paid_for_late_has_its_turn_and_is_booked_now() {
    let mut wallet = wallet([]);
    wallet.changed_at = at(30);
    wallet.owed = credits("4");
    let due = wallet.advance(
        at(30),
        &[],
        &mut vec![owes(7, "4")],
        &mut [renewing(Some("0"))],
    );
    assert_eq!(
        happened(&due),
        "at 30 pro renewed: grant 2 gave 10 for 5; at 30 paid debt 7: grant 2 gave 4 for 2; \
         at 30 expired: grant 2 gave 6 for 3"
    );
}

#[test]
fn a_full_wallet_renews() {
    let mut many = Wallet::new(NOW);
    for n in 0..MAX_GRANTS as u128 {
        many.issue(grant(100 + n, "1", "0")).unwrap();
    }
    many.advance(at(10), &[], &mut vec![], &mut [renewing(None)]);
    assert_eq!((many.grants().len(), many.check()), (1001, Ok(())));
    let mut rich = wallet([grant(1, "999999999999999999", "0")]);
    let mut renews = renewing(None);
    renews.grants.clear();
    rich.advance(at(10), &[], &mut vec![], &mut [renews]);
    assert_eq!((rich.grants().len(), rich.check()), (2, Ok(())));
}

#[test]
fn what_would_make_a_grant_too_large_does_not_roll_over() {
    let mut rich = wallet([Grant {
        expires_at: Some(at(10)),
        ..grant(1, "999999999999999", "1")
    }]);
    let another = Grant {
        expires_at: Some(at(10)),
        ..grant(3, "1", "2")
    };
    rich.issue(another).unwrap();
    let mut renews = renewing(None);
    renews.grants.push(of_period(3));
    let due = rich.advance(at(10), &[], &mut vec![], &mut [renews]);
    assert!(happened(&due).ends_with("at 10 expired: grant 3 gave 1 for 2"));
    assert_eq!(rich.check(), Ok(()));
}
