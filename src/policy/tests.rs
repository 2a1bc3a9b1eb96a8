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

    fn gid(&self, name: &str) -> Result<Option<u32>, String> {
        Ok((name == "trading").then_some(55))
    }

    fn resolve(&self, path: &str) -> Option<String> {
        match path {
            "/link" | "/link/" => Some("/where/it/leads".into()),
            "/top/" => Some("/".into()),
            "/star" | "/star/" => Some("/a*b".into()),
            _ => None,
        }
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        Some(NODES)
    }
}

fn rules(count: usize) -> String {
    (0..count)
        .map(|n| format!("[[rule]]\nname = \"r{n}\"\nexe = \"/opt/bin/{n}\"\n"))
        .collect()
}

#[test]
fn as_many_rules_as_the_maps_hold() {
    let policy = parse(&[Source::new("p.toml", rules(MAX_RULES))], &Machine).unwrap();
    assert_eq!(policy.rules.len(), MAX_RULES);
    assert_eq!(
        policy.rules[MAX_RULES - 1].origin.line,
        3 * (MAX_RULES - 1) + 1
    );
}

#[test]
fn more_rules_than_the_maps_hold() {
    let errors = parse(&[Source::new("p.toml", rules(MAX_RULES + 2))], &Machine).unwrap_err();
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
fn as_many_strings_as_the_maps_hold() {
    let keys = ["exe", "unit", "parent", "argv"];
    let entry = |n: usize| match keys[n % 4] {
        // The same text in two keys is two strings.
        key @ ("unit" | "argv") => format!("{key} = \"{}\"", n / 4),
        key => format!("{key} = \"/{}\"", n / 4),
    };
    let rule = |n: usize| {
        let keys: String = (4 * n..4 * n + 4).map(|n| entry(n) + "\n").collect();
        format!("[[rule]]\nname = \"r{n}\"\n{keys}")
    };
    let fits: String = (0..MAX_STRINGS / 4).map(rule).collect();
    // What is there already takes no room.
    let again = "[[rule]]\nname = \"again\"\nexe = \"/0\"\nargv = \"7\"\n";
    let policy = parse(&[Source::new("p.toml", fits.clone() + again)], &Machine).unwrap();
    assert_eq!(policy.rules.len(), MAX_STRINGS / 4 + 1);
    let more = "[[rule]]\nname = \"more\"\nexe = [\"/0/\", \"/0*\"]\n";
    let errors = parse(
        &[Source::new("p.toml", fits + again + more + again)],
        &Machine,
    )
    .unwrap_err();
    let messages: Vec<_> = errors.list().iter().map(|error| &error.message).collect();
    assert_eq!(
        messages[0],
        "the rules up to this one have 32770 different strings, and the gate has room for 32768"
    );
    assert_eq!(messages.len(), 2, "{messages:?}");
}

#[test]
fn sources_are_one_policy_in_their_order() {
    let rule = |name: &str| format!("\n[[rule]]\nname = {name:?}\nexe = \"/a\"\n");
    let policy = parse(
        &[
            Source::new(
                "b.toml",
                format!("[gate]\nmode = \"enforce\"\n{}", rule("z")),
            ),
            Source::new("c.toml", rule("y") + &rule("x")),
            Source::new("d.toml", ""),
            Source::new("a.toml", rule("w")),
        ],
        &Machine,
    )
    .unwrap();
    assert_eq!((policy.mode, policy.on_unknown), (Mode::Enforce, None));
    let rules = policy.rules.iter();
    let places: Vec<_> = rules
        .map(|rule| format!("{} {}", rule.name, rule.origin))
        .collect();
    assert_eq!(
        places,
        ["z b.toml:4", "y c.toml:2", "x c.toml:6", "w a.toml:2"]
    );
    assert_eq!(parse(&[], &Machine), Ok(Policy::default()));
}

/// Even where nothing stands in the policy file, and where it is not TOML.
#[test]
fn no_drop_in_sets_the_mode() {
    let gate = Source::new("gate.toml", "[gate]\nmode = \"enforce\"\n");
    for first in ["", "[gate]\nmode = \"observe\"\n", "[["] {
        let sources = [Source::new("p.toml", first), gate.clone()];
        let errors = parse(&sources, &Machine).unwrap_err();
        let refused = errors.list().last().unwrap();
        assert_eq!((refused.file.as_str(), refused.line), ("gate.toml", 1));
        assert!(
            refused
                .message
                .starts_with("[gate] stands in the policy file only")
        );
    }
    assert_eq!(parse(&[gate], &Machine).unwrap().mode, Mode::Enforce);
}

/// The places and the messages of what is wrong.
fn told(sources: &[Source]) -> Vec<String> {
    let errors = parse(sources, &Machine).unwrap_err();
    let told = errors.list().iter();
    told.map(|error| {
        format!(
            "{}:{}: {}; {}",
            error.file, error.line, error.message, error.hint
        )
    })
    .collect()
}

#[test]
fn limits_hold_for_all_sources_together() {
    let named =
        |name: &str, count| Source::new(name, rules(count).replace("\"r", &format!("\"{name}")));
    let full = named("a.toml", MAX_RULES - 1);
    assert!(parse(&[full.clone(), named("b.toml", 1)], &Machine).is_ok());
    let hold = format!("rules, and the gate's maps hold {MAX_RULES}");
    assert_eq!(
        told(&[
            full,
            named("b.toml", 3),
            Source::default(),
            named("c.toml", 1)
        ]),
        [
            format!("b.toml:4: 16386 {hold}; remove 2 rules; this is the first that does not fit"),
            format!("c.toml:1: 16387 {hold}; remove 1 rule; this is the first that does not fit"),
        ]
    );
    let globs = |name: &str, numbers: std::ops::Range<u32>| {
        let globs: Vec<_> = numbers.map(|n| format!("a*{n}")).collect();
        Source::new(
            name,
            format!("[[rule]]\nname = {name:?}\nunit = {globs:?}\n"),
        )
    };
    assert_eq!(
        told(&[globs("a", 0..32), globs("b", 31..32), globs("c", 31..33)]),
        [
            "c:1: the rules up to this one have 33 folders and patterns with a `*` that begin \
             alike, and the gate has room for 32; let one folder or `*` stand for several of them"
        ]
    );
}

#[test]
fn without_a_topology_cores_and_nodes_have_no_upper_limit() {
    let rule = |cores: &str| format!("[[rule]]\nname = \"r\"\nexe = \"/a\"\ncores = {cores}\n");
    let text = rule("9\nscope = [4294967295, 7]");
    let policy = parse(&[Source::new("p.toml", &text)], &NoHost).unwrap();
    assert_eq!(policy.rules[0].scope, Scope::Nodes(vec![7, u32::MAX]));
    let text = rule("9\nscope = [4294967296, -1]");
    let errors = parse(&[Source::new("p.toml", &text)], &NoHost).unwrap_err();
    let messages: Vec<_> = errors.list().iter().map(|error| &error.message).collect();
    assert_eq!(
        messages,
        [
            "no machine has a node 4294967296",
            "no machine has a node -1"
        ]
    );
    let policy = parse(&[Source::new("p.toml", rule("4294967295"))], &NoHost).unwrap();
    assert_eq!(policy.rules[0].cores, u32::MAX);
    let errors = parse(&[Source::new("p.toml", rule("4294967296"))], &NoHost).unwrap_err();
    assert!(errors.list()[0].message.contains("no machine has so many"));
    assert!(parse(&[Source::new("p.toml", rule("0"))], &NoHost).is_err());
}

#[test]
fn defaults_are_the_safe_ones() {
    let policy = parse(&[Source::new("p.toml", rules(1))], &Machine).unwrap();
    assert_eq!(policy.mode, Mode::Observe);
    assert_eq!(policy.on_unknown(), OnUnknown::Admit);
    let rule = &policy.rules[0];
    assert_eq!(rule.scope, Scope::Node);
    assert_eq!(
        (rule.cores, rule.action, rule.errno()),
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
        parse(&[Source::new("p.toml", &text)], &Machine).map(|policy| policy.rules[0].hold)
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
fn how_long_cores_are_kept() {
    let kept = |keys: &str| {
        let text = format!("[[rule]]\nname = \"r\"\nexe = \"/a\"\n{keys}\n");
        let policy = parse(&[Source::new("p.toml", &text)], &Machine);
        policy.map(|policy| (policy.rules[0].isolation, policy.rules[0].keep))
    };
    let strict = |time| Ok((Isolation::Strict, time));
    assert_eq!(kept(""), strict(Duration::from_millis(4)));
    for (keep, time) in [
        ("0", Duration::ZERO),
        ("0s", Duration::ZERO),
        ("1ms", Duration::from_millis(1)),
        ("10s", Duration::from_secs(10)),
    ] {
        assert_eq!(kept(&format!("keep = {keep:?}")), strict(time), "{keep}");
    }
    for wrong in ["1ns", "999us", "10s 1ns", "", "4", "-1ms"] {
        assert!(kept(&format!("keep = {wrong:?}")).is_err(), "{wrong}");
    }
    for (isolation, keys) in [
        (Isolation::Prefer, "isolation = \"prefer\"\nkeep = \"4ms\""),
        (Isolation::None, "isolation = \"none\""),
        (Isolation::Strict, "hold = \"none\""),
    ] {
        assert_eq!(kept(keys), Ok((isolation, Rule::DEFAULT_KEEP)), "{keys}");
    }
}

#[test]
fn what_stays_unheld() {
    let reserve = |reserve: &str| {
        let text = format!("[companion]\nreserve = {reserve:?}\n");
        parse(&[Source::new("p.toml", &text)], &Machine).map(|policy| policy.companion.reserve)
    };
    let default = Companion::default().reserve;
    for (text, expected) in [
        ("1 core", default),
        ("2 cores", Reserve::Cores(2)),
        ("1%", Reserve::Percent(1)),
        ("90%", Reserve::Percent(90)),
    ] {
        assert_eq!(reserve(text), Ok(expected), "{text}");
    }
    for wrong in [
        "0 cores",
        "0%",
        "91%",
        "100%",
        "+1 core",
        "-1 core",
        "1",
        "core",
        " cores",
        "1.5 cores",
        "1core",
        "25 %",
        "99999999999999999999 cores",
        "",
    ] {
        assert!(reserve(wrong).is_err(), "{wrong}");
    }
    assert_eq!((default.cores(4), default.cores(1)), (1, 1));
    assert_eq!(Reserve::Cores(3).cores(2), 2);
    let percent = |percent| [1, 2, 4, 64].map(|of| Reserve::Percent(percent).cores(of));
    assert_eq!(percent(25), [1, 1, 1, 16]);
    assert_eq!(percent(26), [1, 1, 2, 17]);
    assert_eq!(percent(1), [1; 4]);
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
        parse(&[Source::new("p.toml", &text)], &Machine)
            .unwrap()
            .rules
            .remove(0)
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
        let errors = parse(&[Source::new("p.toml", &text)], &Machine).unwrap_err();
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
        assert_sound_selectors(&rule.selectors, &rule.on);
        assert!(!rule.on.is_empty() && rule.on.is_sorted_by_key(|hook| *hook as u8));
        assert!((1..=rule.scope.most_cores(NODES)).contains(&rule.cores));
        if let Scope::Nodes(numbers) = &rule.scope {
            assert!([&[0][..], &[2], &[0, 2]].contains(&numbers.as_slice()));
        }
        if let Hold::Settle(time) = rule.hold {
            assert!(Hold::SETTLE_RANGE.contains(&time));
        }
        assert!(rule.keep.is_zero() || Rule::KEEP_RANGE.contains(&rule.keep));
    }
}

fn assert_sound_selectors(s: &Selectors, on: &[Hook]) {
    let any = Selectors {
        container: s.container,
        ..Selectors::default()
    };
    assert_ne!(*s, any);
    for path in s.exe.iter().chain(&s.parent) {
        let resolved = path.resolved.to_string();
        assert_eq!(Pattern::new(&resolved), path.resolved);
        assert_eq!(
            std::mem::discriminant(&Pattern::new(&path.text)),
            std::mem::discriminant(&path.resolved)
        );
        for path in [&path.text, &resolved] {
            assert!((2..=MAX_PATTERN).contains(&path.len()), "{path:?}");
            assert_sound_path(path.strip_suffix('/').unwrap_or(path));
            let (folder, name) = path.rsplit_once('/').unwrap();
            assert!(!folder.contains('*') && name.matches('*').count() <= 1);
        }
    }
    for cgroup in &s.cgroup {
        assert!((2..=MAX_PATTERN).contains(&cgroup.len()), "{cgroup:?}");
        assert_sound_path(cgroup);
        assert!(!cgroup.contains('*'));
    }
    for unit in &s.unit {
        let text = unit.to_string();
        assert!((1..=MAX_PATTERN).contains(&text.len()) && text != "*");
        assert!(!text.contains(['/', '\0']) && text.matches('*').count() <= 1);
    }
    for comm in &s.comm {
        assert!((1..=MAX_COMM).contains(&comm.len()) && !comm.contains('\0'));
    }
    assert!(s.argv.len() <= ARGV_LOOKED_AT);
    for arg in &s.argv {
        assert!((1..=MAX_ARG).contains(&arg.len()) && !arg.contains('\0'));
    }
    if !(s.argv.is_empty() && s.parent.is_empty()) {
        assert_eq!(on, [Hook::Exec]);
    }
    assert!(s.user.iter().all(|user| user.uid != u32::MAX));
    assert!(s.group.iter().all(|group| group.gid != u32::MAX));
}

fn assert_sound_path(path: &str) {
    let components = path.strip_prefix('/').unwrap();
    assert!(!path.contains('\0'));
    assert!(
        components
            .split('/')
            .all(|part| !["", ".", ".."].contains(&part)),
        "{path:?}"
    );
}

fn judge(text: &str) {
    match parse(&[Source::new("p.toml", text)], &Machine) {
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
    "log",
    "system",
    "file",
    "audit",
    "metrics",
    "listen",
    "textfile",
    "interval",
    "companion",
    "slice",
    "reserve",
    "name",
    "exe",
    "unit",
    "cgroup",
    "user",
    "group",
    "comm",
    "argv",
    "parent",
    "container",
    "on",
    "cores",
    "scope",
    "own_core",
    "hold",
    "settle",
    "isolation",
    "keep",
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
    "exe = [\"/a/\", \"/link/\", \"/b/c*d\"]",
    "exe = \"/top/\"",
    "exe = \"/*/x\"",
    "unit = \"redis@*.service\"",
    "unit = [\"a\", \"a*b*\"]",
    "cgroup = \"/system.slice\"",
    "cgroup = \"/system.slice/\"",
    "group = [\"trading\", 7]",
    "group = -1",
    "comm = [\"a\", \"fifteen-bytes!!\"]",
    "comm = \"sixteen-bytes!!!\"",
    "argv = [\"-jar\", \"x.jar\"]",
    "argv = \"\"",
    "parent = \"/usr/bin/make\"",
    "container = \"any\"",
    "container = \"all\"",
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
    "isolation = \"prefer\"",
    "isolation = \"none\"",
    "keep = \"0\"",
    "keep = \"999us\"",
    "action = \"log\"",
    "errno = \"EPERM\"",
    "errno = \"EACCES\"",
    "mode = \"enforce\"",
    "on_unknown = \"deny\"",
    "lease = \"60s\"",
    "lease = \"1s\"",
    "on_lease_end = \"detach\"",
    "event_rate = 0",
    "event_rate = -1",
    "[companion]",
    "slice = \"5ms\"",
    "slice = \"2s\"",
    "reserve = \"2 cores\"",
    "reserve = \"25%\"",
    "reserve = \"0%\"",
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
    for (text, resolved) in [
        ("/x", "/x"),
        ("/x/", "/x/"),
        ("/x-*", "/x-*"),
        ("/link", "/where/it/leads"),
        ("/link/", "/where/it/leads/"),
        ("/link/a*b", "/where/it/leads/a*b"),
        ("/link*", "/link*"),
        ("/top/*", "/*"),
    ] {
        let policy = format!("[[rule]]\nname = \"a\"\nexe = {text:?}\nparent = {text:?}\n");
        let policy = parse(&[Source::new("p.toml", &policy)], &Machine).unwrap();
        let Selectors { exe, parent, .. } = &policy.rules[0].selectors;
        assert_eq!(exe, parent);
        assert_eq!(exe[0].text, text);
        assert_eq!(exe[0].resolved, Pattern::new(resolved), "{text}");
    }
    // A star in the name of what is there stands for itself.
    let text = "[[rule]]\nname = \"a\"\nexe = [\"/star\", \"/star/\", \"/star/*c\"]\n";
    let policy = parse(&[Source::new("p.toml", text)], &Machine).unwrap();
    let exe = policy.rules[0].selectors.exe.iter();
    let matched = |path: &str| {
        exe.clone()
            .map(|exe| exe.resolved.matches(path.as_bytes()))
            .collect::<Vec<_>>()
    };
    assert_eq!(matched("/a*b"), [true, false, false]);
    assert_eq!(matched("/a*b/c"), [false, true, true]);
    assert_eq!(matched("/a-b"), [false; 3]);
    assert_eq!(matched("/a-b/c"), [false; 3]);

    let text = "[[rule]]\nname = \"a\"\nexe = \"/top/\"\n";
    assert!(parse(&[Source::new("p.toml", text)], &Machine).is_err());
}

#[test]
fn words_are_read_as_they_are_written() {
    let read = serde_json::from_str::<Mode>;
    assert_eq!(read("\"enforce\"").ok(), Some(Mode::Enforce));
    let error = read("\"Enforce\"").unwrap_err().to_string();
    assert!(error.contains("`observe` or `enforce`"), "{error}");
}
