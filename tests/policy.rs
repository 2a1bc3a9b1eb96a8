// SPDX-License-Identifier: GPL-2.0-only
//! Policies as users write them: those in `ok/` are valid, and each in `bad/`
//! gets exactly the message beside it. `COREGATE_BLESS=1` writes the messages
//! anew; read the difference before you commit it.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coregate::policy::{
    Action, Errno, GATE_KEYS, Hold, Hook, Host, HostNode, Mode, OnUnknown, Policy, RULE_KEYS, Rule,
    Scope, User, parse,
};

/// One with a gap, as where CPUs were taken out.
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

/// A machine that is the same wherever the tests run.
struct Machine;

impl Host for Machine {
    fn uid(&self, name: &str) -> Result<Option<u32>, String> {
        match name {
            "root" => Ok(Some(0)),
            "redis" => Ok(Some(101)),
            "ldap" => Err("the server does not answer".into()),
            _ => Ok(None),
        }
    }

    fn resolve(&self, _: &str) -> Option<String> {
        None
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        Some(NODES)
    }
}

fn policies(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/policy")
        .join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    paths.sort();
    paths
}

fn parse_file(path: &Path) -> Result<Policy, coregate::policy::Errors> {
    let name = path.file_name().unwrap().to_str().unwrap();
    parse(name, &fs::read_to_string(path).unwrap(), &Machine)
}

#[test]
fn valid_policies() {
    let paths = policies("ok");
    assert!(
        paths.len() >= 8,
        "only {} valid policies found",
        paths.len()
    );
    for path in paths {
        if let Err(errors) = parse_file(&path) {
            panic!("{}:\n{errors}", path.display());
        }
    }
}

#[test]
fn invalid_policies() {
    let bless = std::env::var_os("COREGATE_BLESS").is_some();
    let paths = policies("bad");
    assert!(
        paths.len() >= 40,
        "only {} invalid policies found",
        paths.len()
    );
    let mut differ = Vec::new();
    for path in paths {
        let errors = match parse_file(&path) {
            Ok(_) => panic!("{} is valid", path.display()),
            Err(errors) => format!("{errors}\n"),
        };
        let expected = path.with_extension("stderr");
        if bless {
            fs::write(expected, errors).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != errors {
            differ.push(format!("{}:\n{errors}", path.display()));
        }
    }
    assert!(
        differ.is_empty(),
        "not the expected message:\n\n{}",
        differ.join("\n")
    );
}

#[test]
fn every_message_belongs_to_a_policy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy/bad");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        assert!(
            path.with_extension("toml").exists(),
            "{} is left over",
            path.display()
        );
    }
}

#[test]
fn the_full_form_is_read_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy/ok");
    let policy = parse_file(&folder.join("full.toml")).unwrap();
    assert_eq!(policy.mode, Mode::Enforce);
    assert_eq!(policy.on_unknown, OnUnknown::Deny);
    let rule = &policy.rules[0];
    assert_eq!(rule.name, "cache");
    assert_eq!(rule.selectors.exe[0].text, "/usr/bin/redis-server");
    assert_eq!(
        rule.selectors.user,
        [User {
            uid: 101,
            name: Some("redis".into())
        }]
    );
    assert_eq!(rule.on, [Hook::Exec, Hook::Thread]);
    assert_eq!(rule.cores, 6);
    assert_eq!(rule.scope, Scope::Nodes(vec![0, 2]));
    assert_eq!(rule.own_core, Some(false));
    assert_eq!(rule.hold, Hold::Settle(Duration::from_millis(250)));
    assert_eq!((rule.action, rule.errno), (Action::Log, Errno::Eperm));
    assert_eq!(rule.origin.to_string(), "full.toml:6");
}

/// The example with its commented-out settings (`#key`; prose is `# text`)
/// switched on.
fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy.toml.example");
    let setting = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| !c.is_whitespace()))
    };
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| if setting(line) { &line[1..] } else { line }.to_owned() + "\n")
        .collect()
}

#[test]
fn the_example_is_valid_as_it_stands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy.toml.example");
    let policy = parse_file(&path).unwrap();
    assert_eq!(policy, Policy::default());
}

#[test]
fn the_example_shows_every_key() {
    let keys = |keys: Vec<&str>| keys.into_iter().map(String::from).collect::<BTreeSet<_>>();
    let example: toml::Table = example().parse().unwrap();
    let gate = example["gate"].as_table().unwrap();
    assert_eq!(
        keys(gate.keys().map(String::as_str).collect()),
        keys(GATE_KEYS.to_vec())
    );
    let rule = example["rule"][0].as_table().unwrap();
    assert_eq!(
        keys(rule.keys().map(String::as_str).collect()),
        keys(RULE_KEYS.to_vec())
    );
}

#[test]
fn the_example_shows_the_defaults() {
    // It stands by default only where the example says that it may.
    let text = example().replace("settle = \"100ms\"\n", "");
    let example = parse("policy.toml.example", &text, &Machine).unwrap();
    assert_eq!(example.mode, Mode::default());
    assert_eq!(example.on_unknown, OnUnknown::default());
    let [rule] = example.rules.as_slice() else {
        panic!("the example has one rule")
    };
    assert_eq!(rule.on, Rule::DEFAULT_ON);
    assert_eq!(rule.cores, Rule::DEFAULT_CORES);
    assert_eq!(rule.scope, Scope::default());
    assert_eq!(rule.own_core, Some(rule.own_core(Hook::Exec)));
    assert_eq!(rule.hold, Hold::default());
    assert_eq!(rule.action, Action::default());
    assert_eq!(rule.errno, Errno::default());
}

/// `settle` is for one value of `hold`, which is not the default.
#[test]
fn the_example_shows_the_default_of_settle() {
    let text = example().replace("hold = \"exit\"", "hold = \"settle\"");
    let example = parse("policy.toml.example", &text, &Machine).unwrap();
    assert_eq!(example.rules[0].hold, Hold::Settle(Hold::DEFAULT_SETTLE));
}
