// SPDX-License-Identifier: GPL-2.0-only
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const NODES: &[HostNode] = &[
    HostNode {
        number: 0,
        cores: 4,
    },
    HostNode {
        number: 2,
        cores: 2,
    },
];

struct Machine;

impl Host for Machine {
    fn uid(&self, name: &str) -> Result<Option<u32>, String> {
        Ok((name == "redis").then_some(101))
    }

    fn resolve(&self, exe: &str) -> Option<String> {
        (exe == "/link").then(|| "/where/it/leads".into())
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        Some(NODES)
    }
}

/// A machine whose topology could not be read.
struct Blind;

impl Host for Blind {
    fn uid(&self, _: &str) -> Result<Option<u32>, String> {
        Ok(None)
    }

    fn resolve(&self, _: &str) -> Option<String> {
        None
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        None
    }
}

fn rules(count: usize) -> String {
    (0..count)
        .map(|n| format!("[[rule]]\nname = \"r{n}\"\nexe = \"/opt/bin/{n}\"\n"))
        .collect()
}

#[test]
fn as_many_rules_as_the_maps_hold() {
    let policy = parse("p.toml", &rules(MAX_RULES), &Machine).unwrap();
    assert_eq!(policy.rules.len(), MAX_RULES);
    assert_eq!(
        policy.rules[MAX_RULES - 1].origin.line,
        3 * (MAX_RULES - 1) + 1
    );
}

#[test]
fn more_rules_than_the_maps_hold() {
    let errors = parse("p.toml", &rules(MAX_RULES + 2), &Machine).unwrap_err();
    let [error] = errors.list() else {
        panic!("{errors}")
    };
    assert_eq!(error.message, "16386 rules, and the gate's maps hold 16384");
    assert_eq!(
        error.hint,
        "remove 2 rules; this is the first that does not fit"
    );
    assert_eq!(error.line, 3 * MAX_RULES + 1);
}

#[test]
fn without_a_topology_cores_and_nodes_have_no_upper_limit() {
    let rule = |cores: &str| format!("[[rule]]\nname = \"r\"\nexe = \"/a\"\ncores = {cores}\n");
    let text = rule("9\nscope = [4294967295, 7]");
    let policy = parse("p.toml", &text, &Blind).unwrap();
    assert_eq!(policy.rules[0].scope, Scope::Nodes(vec![7, u32::MAX]));
    let text = rule("9\nscope = [4294967296, -1]");
    let errors = parse("p.toml", &text, &Blind).unwrap_err();
    let messages: Vec<_> = errors.list().iter().map(|error| &error.message).collect();
    assert_eq!(
        messages,
        [
            "no machine has a node 4294967296",
            "no machine has a node -1"
        ]
    );
    let policy = parse("p.toml", &rule("4294967295"), &Blind).unwrap();
    assert_eq!(policy.rules[0].cores, u32::MAX);
    let errors = parse("p.toml", &rule("4294967296"), &Blind).unwrap_err();
    assert!(errors.list()[0].message.contains("no machine has so many"));
    assert!(parse("p.toml", &rule("0"), &Blind).is_err());
}

#[test]
fn defaults_are_the_safe_ones() {
    let policy = parse("p.toml", &rules(1), &Machine).unwrap();
    assert_eq!(policy.mode, Mode::Observe);
    assert_eq!(policy.on_unknown, OnUnknown::Admit);
    let rule = &policy.rules[0];
    assert_eq!(rule.scope, Scope::Node);
    assert_eq!(
        (rule.cores, rule.action, rule.errno),
        (1, Action::Deny, Errno::Eagain)
    );
    assert_eq!(
        (rule.on.as_slice(), rule.hold),
        (&[Hook::Exec][..], Hold::Exit)
    );
}

#[test]
fn how_long_cores_are_held() {
    let hold = |keys: &str| {
        let text = format!("[[rule]]\nname = \"r\"\nexe = \"/a\"\n{keys}\n");
        parse("p.toml", &text, &Machine).map(|policy| policy.rules[0].hold)
    };
    let settle = |time: &str| hold(&format!("hold = \"settle\"\nsettle = {time:?}"));
    assert_eq!(hold("hold = \"exit\""), Ok(Hold::Exit));
    assert_eq!(hold("hold = \"none\""), Ok(Hold::None));
    let millis = |millis| Ok(Hold::Settle(Duration::from_millis(millis)));
    assert_eq!(hold("hold = \"settle\""), millis(100));
    assert_eq!(settle("250ms"), millis(250));
    assert_eq!(settle("1 s 5 ms"), millis(1005));
    assert_eq!(settle("1ms"), millis(1));
    assert_eq!(settle("1h"), millis(3_600_000));
    for wrong in [
        "999us",
        "0s",
        "1h 1ns",
        "",
        "-1s",
        "1",
        "99999999999999999999h",
    ] {
        assert!(settle(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_a_scope_has() {
    let most = |scope: Scope| scope.most_cores(NODES);
    assert_eq!((most(Scope::Node), most(Scope::Any)), (4, 4));
    assert_eq!(most(Scope::Spread), 6);
    assert_eq!(most(Scope::Nodes(vec![2])), 2);
    assert_eq!(most(Scope::Nodes(vec![0, 2])), 6);
    assert_eq!(Scope::Spread.most_cores(&[]), 0);
}

#[test]
fn the_own_core_counts_for_execs_unless_the_rule_says_otherwise() {
    let rule = |keys: &str| {
        let text = format!("[[rule]]\nname = \"r\"\nexe = \"/a\"\n{keys}\n");
        parse("p.toml", &text, &Machine).unwrap().rules.remove(0)
    };
    let counts = |keys: &str| {
        let rule = rule(keys);
        [Hook::Exec, Hook::Fork, Hook::Thread].map(|hook| rule.own_core(hook))
    };
    assert_eq!(counts(""), [true, false, false]);
    assert_eq!(counts("on = [\"fork\"]"), [true, false, false]);
    assert_eq!(counts("own_core = true"), [true; 3]);
    assert_eq!(counts("own_core = false"), [false; 3]);
}

/// The numbers that programs on this architecture see.
#[test]
fn errno_numbers_are_the_kernels() {
    use nix::libc;
    assert_eq!(Errno::Eagain.number(), libc::EAGAIN);
    assert_eq!(Errno::Ebusy.number(), libc::EBUSY);
    assert_eq!(Errno::Eperm.number(), libc::EPERM);
    for errno in Errno::ALL {
        assert!(![libc::EACCES, libc::ENOEXEC].contains(&errno.number()));
    }
}

#[test]
fn every_word_stands_for_its_value() {
    fn round_trip<T: Word + PartialEq + std::fmt::Debug>() {
        for value in T::ALL {
            assert_eq!(T::from_word(value.word()).as_ref(), Some(value));
        }
        assert_eq!(T::from_word(""), None);
    }
    round_trip::<Mode>();
    round_trip::<OnUnknown>();
    round_trip::<Hook>();
    round_trip::<Action>();
    round_trip::<Errno>();
    round_trip::<Verdict>();
    round_trip::<Effect>();
}

/// What is no policy at all, however large, is refused in short.
#[test]
fn messages_stay_readable() {
    let long = "a".repeat(100_000);
    for text in [
        "= \n".repeat(5000),
        format!("{long} = 1\n"),
        format!("[[rule]]\nname = \"{long}\"\nexe = \"{long}\"\nuser = \"{long}\"\n"),
        format!("[[rule]]\non = [\"{long}\"]\nscope = \"{long}\"\nsettle = \"{long}\"\n"),
        "[".repeat(100_000),
        "a.".repeat(100_000),
        "x = {a".repeat(100_000),
    ] {
        let errors = parse("p.toml", &text, &Machine).unwrap_err();
        assert!(errors.list().len() <= 1000);
        assert!(errors.render(true).len() < 40_000);
    }
}

/// What every reader of a policy relies on.
fn assert_sound(policy: &Policy) {
    let mut names = std::collections::HashSet::new();
    assert!(policy.rules.len() <= MAX_RULES);
    for rule in &policy.rules {
        assert!(names.insert(&rule.name));
        assert!((1..=MAX_NAME).contains(&rule.name.len()));
        let exe = &rule.selectors.exe[0].text;
        assert!((2..=MAX_EXE).contains(&exe.len()));
        assert!(exe.starts_with('/') && !exe.contains('\0'));
        assert!(
            exe[1..]
                .split('/')
                .all(|part| !["", ".", ".."].contains(&part))
        );
        assert!(!rule.on.is_empty() && rule.on.is_sorted_by_key(|hook| *hook as u8));
        assert!((1..=rule.scope.most_cores(NODES)).contains(&rule.cores));
        if let Scope::Nodes(numbers) = &rule.scope {
            assert!([&[0][..], &[2], &[0, 2]].contains(&numbers.as_slice()));
        }
        if let Hold::Settle(time) = rule.hold {
            assert!(Hold::SETTLE_RANGE.contains(&time));
        }
        assert!(rule.selectors.user.iter().all(|user| user.uid != u32::MAX));
    }
}

fn judge(text: &str) {
    match parse("p.toml", text, &Machine) {
        Ok(policy) => assert_sound(&policy),
        Err(errors) => {
            assert!(!errors.list().is_empty());
            assert!(
                errors
                    .list()
                    .iter()
                    .all(|error| error.line >= 1 && error.column >= 1)
            );
            assert!(!errors.render(false).is_empty());
        }
    }
}

/// Pieces that policies are made of, right and wrong.
const PIECES: &[&str] = &[
    "[gate]",
    "[[gate]]",
    "[[rule]]",
    "[rule]",
    "[rule.x]",
    "[",
    "]",
    "{",
    "}",
    ",",
    "=",
    ".",
    "\n",
    "\n",
    "\n",
    "\r\n",
    "\r",
    " ",
    "\t",
    "#",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "\\",
    "\\u0000",
    "mode",
    "on_unknown",
    "name",
    "exe",
    "user",
    "on",
    "cores",
    "scope",
    "own_core",
    "hold",
    "settle",
    "action",
    "errno",
    "rule",
    "gate",
    " = ",
    " = ",
    " = ",
    "\"observe\"",
    "\"enforce\"",
    "\"deny\"",
    "\"a\"",
    "\"b\"",
    "\"/a\"",
    "\"/a/..\"",
    "\"redis\"",
    "\"exec\"",
    "\"1ms\"",
    "\"fork\"",
    "0",
    "1",
    "-1",
    "4",
    "0x2",
    "1_0",
    "1e3",
    "1.5",
    "inf",
    "true",
    "1979-05-27",
    "99999999999999999999999999999999999999999999",
    "ü",
    "日本",
    "\u{feff}",
    "\u{1b}[31m",
    "\u{202e}",
    "🦀",
];

/// Lines of which many together are a valid rule.
const LINES: &[&str] = &[
    "[[rule]]",
    "[gate]",
    "name = \"a\"",
    "name = \"b\"",
    "exe = \"/a\"",
    "exe = \"/b/c\"",
    "exe = \"a\"",
    "exe = \"/a//b\"",
    "user = \"redis\"",
    "user = 7",
    "user = -7",
    "on = [\"fork\"]",
    "on = [\"thread\", \"exec\"]",
    "on = [\"exec\", \"exec\"]",
    "on = []",
    "cores = 2",
    "cores = 6",
    "scope = \"spread\"",
    "own_core = true",
    "own_core = \"no\"",
    "scope = [2]",
    "scope = [2, 0]",
    "scope = [0, 0]",
    "scope = [1]",
    "cores = 5",
    "hold = \"settle\"",
    "hold = \"none\"",
    "settle = \"250ms\"",
    "settle = \"1 day\"",
    "action = \"log\"",
    "errno = \"EPERM\"",
    "errno = \"EACCES\"",
    "mode = \"enforce\"",
    "on_unknown = \"deny\"",
    "corse = 1",
    "# text",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_text_is_judged(text in any::<String>()) {
        judge(&text);
    }

    #[test]
    fn any_pieces_are_judged(pieces in prop::collection::vec(select(PIECES), 0..60)) {
        judge(&pieces.concat());
    }

    #[test]
    fn any_lines_are_judged(lines in prop::collection::vec(select(LINES), 0..20)) {
        judge(&lines.join("\n"));
    }
}

#[test]
fn a_link_is_resolved_when_the_policy_is_read() {
    let text = "[[rule]]\nname = \"a\"\nexe = \"/link\"\n[[rule]]\nname = \"b\"\nexe = \"/x\"\n";
    let policy = parse("p.toml", text, &Machine).unwrap();
    let paths: Vec<_> = policy
        .rules
        .iter()
        .map(|rule| {
            let exe = &rule.selectors.exe[0];
            (exe.text.clone(), exe.file.clone())
        })
        .collect();
    assert_eq!(
        paths,
        [("/link", "/where/it/leads"), ("/x", "/x")].map(|(a, b)| (a.into(), b.into()))
    );
}
