// SPDX-License-Identifier: GPL-2.0-only
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::SystemTime;

use super::*;
use crate::policy::{Effect, Hook, Mode, NoHost, Source, parse};

fn policy(rule: &str) -> Policy {
    let text = format!("[gate]\nmode = \"enforce\"\n[[rule]]\nname = \"r\"\n{rule}\n");
    parse(&[Source::new("p.toml", text)], &NoHost).unwrap()
}

/// A launch for which so many cores were free and owed; it needed one of its node.
fn event(free: u32, claimed: u32) -> Event {
    let admitted = free.saturating_sub(claimed) >= 1;
    Event {
        time: SystemTime::UNIX_EPOCH,
        id: 0,
        verdict: if admitted {
            Verdict::Admit
        } else {
            Verdict::Deny
        },
        effect: if admitted {
            Effect::Admitted
        } else {
            Effect::Denied
        },
        rule: "r".into(),
        origin: None,
        hook: Hook::Exec,
        pid: 10,
        uid: 7,
        gid: 7,
        groups: Some(vec![]),
        comm: "sh".into(),
        exe: "/bin/a".into(),
        argv: None,
        parent: None,
        unit: None,
        cgroup: Some("/".into()),
        container: false,
        cpu: 0,
        node: 1,
        cores_needed: 1,
        scope: Some(Scope::Node),
        own_core: Some(true),
        cores_free: free,
        cores_claimed: claimed,
        source: None,
        errno: None,
        mode: Mode::Enforce,
        generation: 1,
        suppressed: 0,
    }
}

/// What becomes of the launch under a policy of this rule.
fn after(rule: &str, event: &Event) -> (Option<String>, Fate) {
    let change = change(&policy(rule), event);
    assert_eq!(change.note.is_some(), change.after.effect == Fate::Unknown);
    (change.after.rule, change.after.effect)
}

fn of_r(fate: Fate) -> (Option<String>, Fate) {
    (Some("r".into()), fate)
}

#[test]
fn the_rule_is_found_anew() {
    let event = event(1, 0);
    assert_eq!(after("exe = \"/bin/b\"", &event), (None, Fate::Unmatched));
    assert_eq!(
        after("exe = \"/bin/a\"\nuser = 8", &event),
        (None, Fate::Unmatched)
    );
    let exempt = "exe = \"/bin/a\"\naction = \"exempt\"";
    assert_eq!(after(exempt, &event), of_r(Fate::Exempt));
    assert_eq!(after("exe = \"/bin/a\"", &event), of_r(Fate::Admitted));
    let asks_more = "exe = \"/bin/a\"\nargv = \"-x\"";
    assert_eq!(after(asks_more, &event), (None, Fate::Unknown));
}

#[test]
fn the_effect_follows_from_the_new_policy() {
    let none = event(0, 0);
    assert_eq!(after("exe = \"/bin/a\"", &none), of_r(Fate::Denied));
    let log = "exe = \"/bin/a\"\naction = \"log\"";
    assert_eq!(after(log, &none), of_r(Fate::Logged));
    let observing = Policy {
        mode: Mode::Observe,
        ..policy("exe = \"/bin/a\"")
    };
    assert_eq!(change(&observing, &none).after.effect, Fate::Logged);
    let unknown = Event {
        verdict: Verdict::Unknown,
        ..none
    };
    assert_eq!(after("exe = \"/bin/a\"", &unknown), of_r(Fate::Admitted));
}

/// By a rule for so many cores in a scope, of a launch with this event: admitted, denied, or it
/// cannot be told.
fn assert_cores(event: &Event, cases: &[(u32, &str, Fate)]) {
    for (cores, more, expected) in cases {
        let rule = format!("exe = \"/bin/a\"\ncores = {cores}\n{more}");
        assert_eq!(after(&rule, event), of_r(*expected), "{rule}");
    }
}

#[test]
fn the_cores_are_those_that_were_counted() {
    use Fate::{Admitted, Denied, Unknown};
    let own = "own_core = false";
    let (any, spread) = ("scope = \"any\"", "scope = \"spread\"");
    let (with_it, without) = ("scope = [0, 1]", "scope = [0]");
    // Three are left on node 1.
    assert_cores(
        &event(4, 1),
        &[
            (3, "", Admitted),
            (4, "", Denied),
            (2, own, Admitted),
            (3, own, Unknown),
            (4, own, Denied),
            (3, any, Admitted),
            (4, any, Unknown),
            (3, spread, Admitted),
            (4, spread, Unknown),
            (3, with_it, Admitted),
            (4, with_it, Unknown),
            (1, without, Unknown),
        ],
    );
    let without_own = Event {
        own_core: Some(false),
        ..event(4, 1)
    };
    assert_cores(
        &without_own,
        &[(3, "", Admitted), (4, "", Unknown), (5, "", Denied)],
    );
    let not_said = Event {
        scope: None,
        ..event(4, 1)
    };
    assert_cores(&not_said, &[(1, "", Unknown)]);
}

#[test]
fn other_nodes_were_not_all_counted() {
    use Fate::{Admitted, Denied, Unknown};
    let of = |scope: Scope, event: Event| Event {
        scope: Some(scope),
        ..event
    };
    let any = "scope = \"any\"";
    // The first node had enough: of the others nothing is known.
    let admitted = of(Scope::Any, event(2, 0));
    assert_cores(
        &admitted,
        &[(2, any, Admitted), (3, any, Unknown), (1, "", Unknown)],
    );
    // No node had one.
    let denied = of(Scope::Any, event(0, 0));
    assert_cores(
        &denied,
        &[
            (1, any, Denied),
            (1, "", Denied),
            (1, "scope = [1]", Unknown),
        ],
    );
    let list = of(Scope::Nodes(vec![0, 1]), event(0, 0));
    assert_cores(
        &list,
        &[(1, "scope = [1]", Denied), (1, "scope = [1, 2]", Unknown)],
    );
}

/// Two cores are free, and the launch was denied: it may not use them.
#[test]
fn numbers_that_do_not_explain_the_verdict_are_not_gone_by() {
    use Fate::{Admitted, Denied, Unknown};
    let denied = Event {
        verdict: Verdict::Deny,
        cores_needed: 2,
        ..event(2, 0)
    };
    assert_cores(
        &denied,
        &[(1, "", Unknown), (2, "", Denied), (3, "", Denied)],
    );
    let admitted = Event {
        verdict: Verdict::Admit,
        cores_needed: 2,
        ..event(2, 2)
    };
    assert_cores(
        &admitted,
        &[(1, "", Admitted), (2, "", Admitted), (3, "", Unknown)],
    );
}

#[test]
fn the_same_policy_changes_nothing() {
    let events = [event(1, 0), event(0, 0), event(2, 2)];
    let changes = replay(&policy("exe = \"/bin/a\""), &events);
    assert_eq!((changes.compared, changes.count_changed()), (3, 0));
    assert_eq!(changes.unknown, []);

    let changes = replay(&policy("exe = \"/bin/b\""), &events);
    assert_eq!(changes.count_changed(), 3);
    let counts: Vec<_> = changes
        .changed
        .iter()
        .map(|change| change.launches)
        .collect();
    assert_eq!(counts, [2, 1]);
}
