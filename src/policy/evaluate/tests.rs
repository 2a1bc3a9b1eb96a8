// SPDX-License-Identifier: GPL-2.0-only
use super::*;
use crate::policy::{Container, Group, PathPattern, Pattern, Selectors, User};

fn path(text: &str) -> PathPattern {
    PathPattern {
        text: text.into(),
        resolved: Pattern::new(text),
    }
}

fn rule(name: &str, exe: &str, uid: Option<u32>) -> Rule {
    Rule {
        cores: 2,
        ..Rule::sample(name, path(exe), uid)
    }
}

fn launch(exe: &str, uid: u32) -> Launch<'_> {
    Launch {
        exe: Some(exe.as_bytes()),
        uid: Some(uid),
        container: Some(false),
        ..Launch::unknown(Hook::Exec)
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
    assert_eq!(evaluate(&policy, &launch("/bin/a", 7)), Found::Rule(0));
    assert_eq!(evaluate(&policy, &launch("/bin/a", 8)), Found::Rule(1));
}

#[test]
fn every_given_selector_must_match() {
    let policy = Policy {
        rules: vec![rule("r", "/bin/a", Some(7))],
        ..Policy::default()
    };
    assert_eq!(evaluate(&policy, &launch("/bin/a", 8)), Found::Nothing);
    assert_eq!(evaluate(&policy, &launch("/bin/b", 7)), Found::Nothing);
    assert_eq!(evaluate(&policy, &launch("/bin/a/", 7)), Found::Nothing);
    assert_eq!(evaluate(&policy, &launch("/bin/", 7)), Found::Nothing);
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
            let expected = match on.contains(hook) {
                true => Found::Rule(0),
                false => Found::Nothing,
            };
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

/// What a rule with these selectors, and no others, says to a launch.
fn ask(selectors: Selectors, launch: &Launch<'_>) -> Found {
    let rule = Rule {
        selectors,
        ..rule("r", "/", None)
    };
    let policy = Policy {
        rules: vec![rule],
        ..Policy::default()
    };
    evaluate(&policy, launch)
}

fn meets(selectors: &Selectors, launch: &Launch<'_>) -> bool {
    match ask(selectors.clone(), launch) {
        Found::Rule(0) => true,
        Found::Nothing => false,
        other => panic!("{other:?} for {launch:?}"),
    }
}

#[test]
fn paths_of_programs() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "/opt/x",
            &["/opt/x"],
            &[
                "/opt/x/",
                "/opt",
                "/opt/xx",
                "opt/x",
                "/opt/x (deleted)",
                "",
            ],
        ),
        // A folder: what is below it, however deep, and no file of its name.
        (
            "/opt/x/",
            &["/opt/x/a", "/opt/x/a/b/c"],
            &["/opt/x", "/opt/x/", "/opt/xa", "/o/opt/x/a", ""],
        ),
        // A glob: in its folder only, and what stands around the star does not overlap.
        (
            "/opt/x-*",
            &["/opt/x-", "/opt/x-a", "/opt/x-*"],
            &["/opt/x", "/opt/x-a/b", "/opt/x-/", "/opt/yx-a", ""],
        ),
        (
            "/opt/*.bin",
            &["/opt/.bin", "/opt/a.bin", "/opt/.bin.bin"],
            &["/opt/a/b.bin", "/opt/a.bin2", "/opt/bin", ""],
        ),
        (
            "/opt/ab*ba",
            &["/opt/abba", "/opt/ab-ba", "/opt/ababa"],
            &["/opt/aba", "/opt/ab/ba", ""],
        ),
        (
            "/opt/x/*",
            &["/opt/x/a", "/opt/x/"],
            &["/opt/x", "/opt/x/a/b", ""],
        ),
        ("/*", &["/a"], &["/a/b", ""]),
    ];
    for (pattern, met, missed) in cases {
        let exe = Selectors {
            exe: vec![path(pattern)],
            ..Selectors::default()
        };
        let parent = Selectors {
            parent: vec![path(pattern)],
            ..Selectors::default()
        };
        for (paths, expected) in [(met, true), (missed, false)] {
            for other in *paths {
                let exec = launch(other, 7);
                assert_eq!(meets(&exe, &exec), expected, "{pattern} and {other}");
                let child = Launch {
                    parent: Some(other.as_bytes()),
                    ..launch("/bin/a", 7)
                };
                assert_eq!(meets(&parent, &child), expected, "{pattern} and {other}");
            }
        }
    }
}

#[test]
fn a_path_is_compared_resolved() {
    let link = PathPattern {
        text: "/link/".into(),
        resolved: Pattern::new("/opt/"),
    };
    let selectors = Selectors {
        exe: vec![link],
        ..Selectors::default()
    };
    assert!(meets(&selectors, &launch("/opt/a", 7)));
    assert!(!meets(&selectors, &launch("/link/a", 7)));
}

fn in_cgroup(path: &str) -> Launch<'_> {
    Launch {
        cgroup: Some(path.as_bytes()),
        ..launch("/bin/a", 7)
    }
}

#[test]
fn units_among_the_cgroup_and_its_ancestors() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "a.service",
            &[
                "/a.service",
                "/system.slice/a.service",
                "/system.slice/a.service/sub/sub",
            ],
            &[
                "/",
                "",
                "/system.slice",
                "/aa.service",
                "/a.service2",
                "/x/a/service",
            ],
        ),
        (
            "m@*.service",
            &["/x/m@.service", "/x/m@1.service/y", "/m@a@b.service"],
            &[
                "/x/m@1/y.service",
                "/x/m@1.slice",
                "/x/xm@1.service",
                "/x/m@.servic",
            ],
        ),
        (
            "*.slice",
            &["/a.slice/b", "/.slice"],
            &["/", "", "/a.slice2/b"],
        ),
        ("ab*ba", &["/abba"], &["/aba", "/ab/ba"]),
    ];
    for (unit, met, missed) in cases {
        let selectors = Selectors {
            unit: vec![Pattern::new(unit)],
            ..Selectors::default()
        };
        for (paths, expected) in [(met, true), (missed, false)] {
            for path in *paths {
                assert_eq!(
                    meets(&selectors, &in_cgroup(path)),
                    expected,
                    "{unit} and {path}"
                );
            }
        }
    }
}

#[test]
fn a_cgroup_and_all_below_it() {
    let selectors = Selectors {
        cgroup: vec!["/a.slice/b".into()],
        ..Selectors::default()
    };
    for path in ["/a.slice/b", "/a.slice/b/c", "/a.slice/b/c/d"] {
        assert!(meets(&selectors, &in_cgroup(path)), "{path}");
    }
    for path in [
        "/",
        "",
        "/a.slice",
        "/a.slice/bc",
        "/a.slice/b.c",
        "/b",
        "/x/a.slice/b",
    ] {
        assert!(!meets(&selectors, &in_cgroup(path)), "{path}");
    }
}

#[test]
fn groups_effective_or_supplementary() {
    let group = |gid| Group { gid, name: None };
    let selectors = Selectors {
        group: vec![group(5), group(6)],
        ..Selectors::default()
    };
    let member = |gid, groups: &[u32]| {
        meets(
            &selectors,
            &Launch {
                gid: Some(gid),
                groups: Some(groups),
                ..launch("/bin/a", 7)
            },
        )
    };
    assert!(member(5, &[]));
    // After newgrp(1) the group that the user came from is a supplementary one.
    assert!(member(100, &[7, 6]));
    assert!(!member(100, &[7, 56]));

    // One that is known and met is enough; else all must be known.
    let partly = |gid: Option<u32>, groups: Option<&[u32]>| {
        let launch = Launch {
            gid,
            groups,
            ..launch("/bin/a", 7)
        };
        ask(selectors.clone(), &launch)
    };
    let open = Found::Unknown(0, Selector::Group);
    assert_eq!(partly(Some(5), None), Found::Rule(0));
    assert_eq!(partly(None, Some(&[6])), Found::Rule(0));
    assert_eq!(partly(Some(4), None), open);
    assert_eq!(partly(None, Some(&[4])), open);
}

#[test]
fn units_without_the_path_of_the_cgroup() {
    let in_units = |units: Option<Vec<&'static [u8]>>| Launch {
        units,
        ..launch("/bin/a", 7)
    };
    let unit = Selectors {
        unit: vec![Pattern::new("a*.service")],
        ..Selectors::default()
    };
    assert!(meets(
        &unit,
        &in_units(Some(vec![b"x.slice", b"a1.service"]))
    ));
    assert!(!meets(&unit, &in_units(Some(vec![b"x.slice"]))));
    let open = Found::Unknown(0, Selector::Unit);
    assert_eq!(ask(unit.clone(), &in_units(None)), open);
    // The path says it better.
    let both = Launch {
        cgroup: Some(b"/b.service"),
        ..in_units(Some(vec![b"a1.service"]))
    };
    assert!(!meets(&unit, &both));
    let cgroup = Selectors {
        cgroup: vec!["/x.slice".into()],
        ..Selectors::default()
    };
    let open = Found::Unknown(0, Selector::Cgroup);
    assert_eq!(ask(cgroup, &in_units(Some(vec![b"x.slice"]))), open);
}

#[test]
fn names_of_launchers() {
    let selectors = Selectors {
        comm: vec!["fifteen-bytes!!".into(), "sh".into()],
        ..Selectors::default()
    };
    let named = |comm: &str| {
        meets(
            &selectors,
            &Launch {
                comm: Some(comm.as_bytes()),
                ..launch("/bin/a", 7)
            },
        )
    };
    assert!(named("fifteen-bytes!!") && named("sh"));
    assert!(!named("fifteen-bytes!") && !named("bash") && !named("sh ") && !named(""));
}

#[test]
fn all_arguments_among_the_first_eight() {
    let selectors = Selectors {
        argv: vec!["-jar".into(), "x.jar".into()],
        ..Selectors::default()
    };
    let given = |argv: &[&str]| {
        let argv = argv.iter().map(|arg| arg.as_bytes()).collect();
        meets(
            &selectors,
            &Launch {
                argv: Some(argv),
                ..launch("/bin/a", 7)
            },
        )
    };
    assert!(given(&["java", "-jar", "x.jar"]));
    assert!(given(&["x.jar", "-jar"]));
    assert!(given(&["1", "2", "3", "4", "5", "6", "-jar", "x.jar", "9"]));
    // The eighth counts, the ninth does not.
    assert!(!given(&[
        "1", "2", "3", "4", "5", "6", "7", "-jar", "x.jar"
    ]));
    assert!(!given(&["java", "-jar"]));
    assert!(!given(&["java", "-jar", "x.jar2"]));
    assert!(!given(&["java", "-jar x.jar"]));
    assert!(!given(&[]));
}

#[test]
fn containers() {
    for (container, host, inside) in [
        (Container::Host, true, false),
        (Container::Any, true, true),
        (Container::Only, false, true),
    ] {
        let selectors = Selectors {
            container,
            ..Selectors::default()
        };
        for (is_inside, expected) in [(false, host), (true, inside)] {
            let launch = Launch {
                container: Some(is_inside),
                ..launch("/bin/a", 7)
            };
            assert_eq!(meets(&selectors, &launch), expected, "{container}");
        }
    }
}

#[test]
fn one_entry_of_a_list_is_enough() {
    let selectors = Selectors {
        exe: vec![path("/bin/b"), path("/opt/")],
        unit: vec![Pattern::new("a"), Pattern::new("b*")],
        ..Selectors::default()
    };
    assert!(meets(
        &selectors,
        &Launch {
            exe: Some(b"/opt/x"),
            ..in_cgroup("/b2")
        }
    ));
    assert!(!meets(
        &selectors,
        &Launch {
            exe: Some(b"/opt/x"),
            ..in_cgroup("/c")
        }
    ));
    assert!(!meets(
        &selectors,
        &Launch {
            exe: Some(b"/bin/c"),
            ..in_cgroup("/b2")
        }
    ));
}

/// What is not known of a launch leaves open whether a rule matches, unless something else of it
/// says no, or an earlier rule yes.
#[test]
fn what_is_not_known() {
    let selectors = Selectors {
        exe: vec![path("/bin/a")],
        comm: vec!["sh".into()],
        user: vec![User { uid: 7, name: None }],
        ..Selectors::default()
    };
    let known = Launch {
        comm: Some(b"sh"),
        ..launch("/bin/a", 7)
    };
    assert_eq!(ask(selectors.clone(), &known), Found::Rule(0));
    let forgotten = |launch: &Launch<'_>| ask(selectors.clone(), launch);
    let no_comm = Launch {
        comm: None,
        ..known.clone()
    };
    assert_eq!(forgotten(&no_comm), Found::Unknown(0, Selector::Comm));
    let no_user = Launch {
        uid: None,
        ..no_comm.clone()
    };
    assert_eq!(forgotten(&no_user), Found::Unknown(0, Selector::User));
    let other = Launch {
        exe: Some(b"/bin/b"),
        ..no_comm.clone()
    };
    assert_eq!(forgotten(&other), Found::Nothing);
    let nowhere = Launch {
        container: None,
        ..known.clone()
    };
    assert_eq!(forgotten(&nowhere), Found::Unknown(0, Selector::Container));
    // The kind of a launch is always known.
    assert_eq!(forgotten(&Launch::unknown(Hook::Fork)), Found::Nothing);

    let with_comm = Rule {
        selectors: selectors.clone(),
        ..rule("r", "/", None)
    };
    let any_comm = rule("s", "/bin/a", None);
    let policy = Policy {
        rules: vec![any_comm.clone(), with_comm.clone()],
        ..Policy::default()
    };
    assert_eq!(evaluate(&policy, &no_comm), Found::Rule(0));
    let policy = Policy {
        rules: vec![with_comm, any_comm],
        ..Policy::default()
    };
    assert_eq!(
        evaluate(&policy, &no_comm),
        Found::Unknown(0, Selector::Comm)
    );
}
