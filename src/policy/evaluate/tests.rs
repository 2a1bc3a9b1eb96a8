// SPDX-License-Identifier: GPL-2.0-only
use super::*;
use crate::policy::{Exe, Hold, Origin, Scope, Selectors, User, Word};

fn rule(name: &str, exe: &str, uid: Option<u32>) -> Rule {
    Rule {
        name: name.into(),
        selectors: Selectors {
            exe: vec![Exe {
                text: exe.into(),
                file: exe.into(),
            }],
            user: uid
                .map(|uid| User { uid, name: None })
                .into_iter()
                .collect(),
        },
        on: vec![Hook::Exec],
        cores: 2,
        scope: Scope::Node,
        own_core: None,
        hold: Hold::Exit,
        action: Action::Deny,
        errno: Errno::Ebusy,
        origin: Origin {
            file: "test".into(),
            line: 1,
        },
    }
}

fn launch(exe: &str, uid: u32) -> Launch<'_> {
    Launch {
        hook: Hook::Exec,
        exe: exe.as_bytes(),
        uid,
    }
}

fn known(free: u32, claimed: u32) -> Idle {
    Idle::Known { free, claimed }
}

#[test]
fn first_rule_in_file_order_wins() {
    let policy = Policy {
        rules: vec![
            rule("other-user", "/bin/a", Some(7)),
            rule("any-user", "/bin/a", None),
            rule("shadowed", "/bin/a", Some(8)),
        ],
        ..Policy::default()
    };
    assert_eq!(evaluate(&policy, &launch("/bin/a", 7)), Some(0));
    assert_eq!(evaluate(&policy, &launch("/bin/a", 8)), Some(1));
}

#[test]
fn every_given_selector_must_match() {
    let policy = Policy {
        rules: vec![rule("r", "/bin/a", Some(7))],
        ..Policy::default()
    };
    assert_eq!(evaluate(&policy, &launch("/bin/a", 8)), None);
    assert_eq!(evaluate(&policy, &launch("/bin/b", 7)), None);
    assert_eq!(evaluate(&policy, &launch("/bin/a/", 7)), None);
    assert_eq!(evaluate(&policy, &launch("/bin/", 7)), None);
}

#[test]
fn a_rule_watches_only_what_it_is_on() {
    for on in [
        &[Hook::Exec][..],
        &[Hook::Fork],
        &[Hook::Thread],
        &[Hook::Fork, Hook::Thread],
        Hook::ALL,
    ] {
        let policy = Policy {
            rules: vec![Rule {
                on: on.into(),
                ..rule("r", "/bin/a", None)
            }],
            ..Policy::default()
        };
        for hook in Hook::ALL {
            let launch = Launch {
                hook: *hook,
                ..launch("/bin/a", 7)
            };
            let expected = on.contains(hook).then_some(0);
            assert_eq!(evaluate(&policy, &launch), expected, "{hook} of {on:?}");
        }
    }
}

#[test]
fn claims_are_taken_off_the_free_cores() {
    let rule = rule("r", "/bin/a", None);
    let verdict =
        |free, claimed| verdict(&rule, Mode::Enforce, OnUnknown::Admit, known(free, claimed));
    assert_eq!(verdict(2, 0).verdict, Verdict::Admit);
    assert_eq!(verdict(3, 1).verdict, Verdict::Admit);
    assert_eq!(verdict(3, 2).verdict, Verdict::Deny);
    assert_eq!(verdict(1, 0).verdict, Verdict::Deny);
    // More owed than free must not wrap round to "plenty".
    assert_eq!(verdict(0, u32::MAX).verdict, Verdict::Deny);
}

/// Every combination, spelled out: this table is the meaning of `mode`,
/// `action` and `on_unknown`.
#[test]
fn effects() {
    use Effect::{Admitted, Denied, Logged};
    let idles = [(known(2, 0), Verdict::Admit), (known(1, 0), Verdict::Deny)];
    let cases = [
        (
            Mode::Enforce,
            Action::Deny,
            [Admitted, Denied],
            [Admitted, Denied],
        ),
        (
            Mode::Enforce,
            Action::Log,
            [Admitted, Logged],
            [Admitted, Logged],
        ),
        (
            Mode::Observe,
            Action::Deny,
            [Admitted, Logged],
            [Admitted, Logged],
        ),
        (
            Mode::Observe,
            Action::Log,
            [Admitted, Logged],
            [Admitted, Logged],
        ),
    ];
    for (mode, action, by_idle, by_unknown) in cases {
        let rule = Rule {
            action,
            ..rule("r", "/bin/a", None)
        };
        for ((idle, expected), effect) in idles.iter().zip(by_idle) {
            for on_unknown in OnUnknown::ALL {
                let errno = (effect == Denied).then_some(Errno::Ebusy);
                assert_eq!(
                    verdict(&rule, mode, *on_unknown, *idle),
                    Decision {
                        verdict: *expected,
                        effect,
                        errno
                    }
                );
            }
        }
        for (on_unknown, effect) in [OnUnknown::Admit, OnUnknown::Deny]
            .into_iter()
            .zip(by_unknown)
        {
            let errno = (effect == Denied).then_some(Errno::Ebusy);
            assert_eq!(
                verdict(&rule, mode, on_unknown, Idle::Unknown),
                Decision {
                    verdict: Verdict::Unknown,
                    effect,
                    errno
                }
            );
        }
    }
}

#[test]
fn i8_observe_never_blocks() {
    for action in Action::ALL {
        let rule = Rule {
            action: *action,
            ..rule("r", "/bin/a", None)
        };
        for on_unknown in OnUnknown::ALL {
            for idle in [known(0, 0), known(9, 9), Idle::Unknown] {
                let decision = verdict(&rule, Mode::Observe, *on_unknown, idle);
                assert_ne!(decision.effect, Effect::Denied);
                assert_eq!(decision.errno, None);
            }
        }
    }
}
