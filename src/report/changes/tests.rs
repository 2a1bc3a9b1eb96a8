// SPDX-License-Identifier: GPL-2.0-only
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn outcome(rule: &str, effect: Fate) -> Outcome {
    Outcome {
        rule: (!rule.is_empty()).then(|| rule.into()),
        effect,
    }
}

fn change(before: Outcome, after: Outcome, launches: u64) -> Change {
    Change {
        before,
        after,
        launches,
        example: None,
        note: None,
    }
}

#[test]
fn launches_are_sorted_by_what_is_known_of_them() {
    use Fate::*;
    let denied = || outcome("a", Denied);
    for (before, after, changed, unknown) in [
        (denied(), denied(), false, false),
        (denied(), outcome("a", Admitted), true, false),
        (denied(), outcome("b", Denied), true, false),
        (denied(), outcome("", Unmatched), true, false),
        (outcome("", Unmatched), denied(), true, false),
        // The rule is another one for certain.
        (denied(), outcome("b", Unknown), true, false),
        (denied(), outcome("a", Unknown), false, true),
        (denied(), outcome("", Unknown), false, true),
        (outcome("a", Unknown), outcome("a", Unknown), false, true),
        (outcome("a", Unknown), denied(), false, true),
    ] {
        let changes = Changes::new([change(before.clone(), after.clone(), 7)]);
        let found = (
            changes.compared,
            changes.count_changed(),
            changes.count_unknown(),
        );
        let count = |is: bool| if is { 7 } else { 0 };
        assert_eq!(
            found,
            (7, count(changed), count(unknown)),
            "{before} -> {after}"
        );
    }
}

#[test]
fn the_table_has_the_most_frequent_first_and_fits() {
    let mut changes = vec![
        change(
            outcome("cache", Fate::Denied),
            outcome("cache", Fate::Admitted),
            7,
        ),
        change(
            outcome("cache", Fate::Admitted),
            outcome("cache", Fate::Admitted),
            60,
        ),
        change(
            outcome("cache", Fate::Denied),
            outcome("", Fate::Unmatched),
            112,
        ),
        change(
            outcome("java", Fate::Admitted),
            outcome("", Fate::Unknown),
            3,
        ),
    ];
    changes[0].example = Some(Example {
        id: 17,
        exe: "/usr/bin/redis-check-rdb".into(),
        uid: 110,
    });
    changes[3].note = Some("argv was not recorded".into());
    let changes = Changes::new(changes);
    let expected = "\
launches  before         after            for example
     112  cache: denied  no rule
       7  cache: denied  cache: admitted  /usr/bin/redis-check-rdb (user 110,
                                          id 17)

launches  before          after    for example
       3  java: admitted  unknown

argv was not recorded

182 launches: 119 would change, 3 cannot be told";
    assert_eq!(changes.to_string(), expected);

    let json = serde_json::to_string(&changes).unwrap();
    assert_eq!(serde_json::from_str::<Changes>(&json).unwrap(), changes);
}

#[test]
fn long_names_are_broken_not_cut() {
    let name = "a-rule-with-a-name-that-is-much-longer-than-any-column.can-be-on-a-terminal";
    let mut one = change(outcome(name, Fate::Denied), outcome(name, Fate::Logged), 1);
    one.example = Some(Example {
        id: 0,
        exe: format!("/opt/{}/program", "folder/".repeat(30)),
        uid: 0,
    });
    let text = Changes::new([one]).to_string();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    assert!(text.ends_with("\n1 launch: 1 would change"), "{text}");
}

#[test]
fn launches_that_come_to_the_same_are_one_change() {
    let one = || change(outcome("a", Fate::Denied), outcome("b", Fate::Denied), 1);
    let mut noted = one();
    noted.note = Some("why".into());
    let changes = Changes::new([one(), noted, one()]);
    assert_eq!(changes.compared, 3);
    let counts: Vec<_> = changes
        .changed
        .iter()
        .map(|change| change.launches)
        .collect();
    assert_eq!(counts, [2, 1]);
}
