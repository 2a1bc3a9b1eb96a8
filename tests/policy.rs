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
    ARGV_LOOKED_AT, Action, COMPANION_KEYS, Companion, Container, Errno, GATE_KEYS, Hold, Hook,
    Host, HostNode, Isolation, LOG_KEYS, LeaseEnd, Listen, Log, MAX_ARG, MAX_COMM, MAX_GLOBS,
    MAX_KEYS, MAX_NAME, MAX_OTHERS, MAX_OTHERS_OF_RULE, MAX_PATTERN, MAX_RULES, MAX_RULES_OF_KEY,
    MAX_SAME_BEGINNING, MAX_SOCKET, MAX_STRING_BYTES, MAX_STRINGS, METRICS_KEYS, Metrics, Mode,
    OnUnknown, Policy, RULE_KEYS, Reserve, Rule, Scope, Selector, Source, SystemLog, User, Word,
    parse,
};
use coregate::policy_file::MAX_SIZE;

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

    fn gid(&self, name: &str) -> Result<Option<u32>, String> {
        match name {
            "root" => Ok(Some(0)),
            "trading" => Ok(Some(102)),
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

/// The policies in a folder, each a file, or a folder with a policy file and drop-ins.
fn policies(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/policy")
        .join(folder);
    let mut paths = entries(&folder);
    paths.retain(|path| path.extension().is_none_or(|ending| ending == "toml"));
    paths
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn parse_file(path: &Path) -> Result<Policy, coregate::policy::Errors> {
    let (top, files) = if path.is_dir() {
        let policy = vec![path.join("policy.toml")];
        (path, [policy, entries(&path.join("policy.d"))].concat())
    } else {
        (path.parent().unwrap(), vec![path.into()])
    };
    let source = |file: &PathBuf| {
        let name = file.strip_prefix(top).unwrap().to_str().unwrap();
        Source::new(name, fs::read_to_string(file).unwrap())
    };
    let sources: Vec<_> = files.iter().map(source).collect();
    parse(&sources, &Machine)
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
        let policies = [path.with_extension("toml"), path.with_extension("")];
        assert!(
            policies.iter().any(|policy| policy.exists()),
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
    assert_eq!(policy.on_unknown, Some(OnUnknown::Deny));
    let lease = policy.lease.unwrap();
    assert_eq!((lease.time.as_secs(), lease.end), (90, LeaseEnd::Detach));
    assert_eq!(policy.event_rate, 7);
    let log = Log {
        system: SystemLog::Rfc5424,
        file: Some("/var/log/coregate/events.json".into()),
        audit: true,
    };
    assert_eq!(policy.log, log);
    let metrics = Metrics {
        listen: Some(Listen::Port(([127, 0, 0, 1], 9842).into())),
        textfile: Some("/var/lib/prometheus/node-exporter/coregate.prom".into()),
        interval: Duration::from_secs(60),
    };
    assert_eq!(policy.metrics, metrics);
    let companion = Companion {
        slice: Duration::from_millis(5),
        reserve: Reserve::Percent(25),
    };
    assert_eq!(policy.companion, companion);
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
    assert_eq!(rule.isolation, Isolation::Prefer);
    assert_eq!(rule.keep, Duration::from_millis(10));
    assert_eq!((rule.action, rule.errno), (Action::Log, Some(Errno::Eperm)));
    assert_eq!(rule.origin.to_string(), "full.toml:23");
}

/// The example with its commented-out settings (`#key`; prose is `# text`)
/// switched on.
fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policy.toml.example");
    let setting = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| c == '[' || c.is_alphabetic()))
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
    let given = Policy {
        on_unknown: Some(OnUnknown::default()),
        ..Policy::default()
    };
    assert_eq!(policy, given);
}

#[test]
fn the_example_shows_every_key() {
    let keys = |keys: Vec<&str>| keys.into_iter().map(String::from).collect::<BTreeSet<_>>();
    let example: toml::Table = example().parse().unwrap();
    let sections = [
        ("gate", GATE_KEYS),
        ("log", LOG_KEYS),
        ("metrics", METRICS_KEYS),
        ("companion", COMPANION_KEYS),
    ];
    for (section, known) in sections {
        let section = example[section].as_table().unwrap();
        assert_eq!(
            keys(section.keys().map(String::as_str).collect()),
            keys(known.iter().map(|key| key.name).collect())
        );
    }
    let rule = example["rule"][0].as_table().unwrap();
    assert_eq!(
        keys(rule.keys().map(String::as_str).collect()),
        keys(RULE_KEYS.iter().map(|key| key.name).collect())
    );
}

#[test]
fn the_example_shows_the_defaults() {
    // It stands by default only where the example says that it may.
    let text = example().replace("settle = \"100ms\"\n", "");
    let example = parse(&[Source::new("policy.toml.example", &text)], &Machine).unwrap();
    assert_eq!(example.mode, Mode::default());
    assert_eq!(example.on_unknown, Some(OnUnknown::default()));
    assert_eq!(example.lease.unwrap().end, LeaseEnd::default());
    assert_eq!(example.event_rate, Policy::default().event_rate);
    let file = example.log.file.clone();
    assert_eq!(
        example.log,
        Log {
            file,
            ..Log::default()
        }
    );
    assert_eq!(example.metrics.interval, Metrics::default().interval);
    assert_eq!(example.companion, Companion::default());
    let [rule] = example.rules.as_slice() else {
        panic!("the example has one rule")
    };
    assert_eq!(rule.on, Rule::DEFAULT_ON);
    assert_eq!(rule.cores, Rule::DEFAULT_CORES);
    assert_eq!(rule.scope, Scope::default());
    assert_eq!(rule.own_core, Some(rule.own_core(Hook::Exec)));
    assert_eq!(rule.hold, Hold::default());
    assert_eq!(rule.isolation, Isolation::default());
    assert_eq!(rule.keep, Rule::DEFAULT_KEEP);
    assert_eq!(rule.action, Action::default());
    assert_eq!(rule.errno, Some(Errno::default()));
    assert_eq!(rule.selectors.container, Container::default());
}

#[test]
fn the_reference_has_the_limits_and_the_selectors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = |heading: &str| {
        let (_, section) = text.split_once(heading).unwrap();
        let section = section.split("\n#").next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
        rows.map(str::to_owned).collect::<Vec<_>>()
    };
    let limits = [
        MAX_RULES,
        MAX_KEYS,
        MAX_RULES_OF_KEY,
        MAX_OTHERS,
        MAX_OTHERS_OF_RULE,
        MAX_STRINGS,
        MAX_STRING_BYTES,
        MAX_GLOBS,
        MAX_SAME_BEGINNING,
        MAX_PATTERN,
        MAX_COMM,
        MAX_ARG,
        ARGV_LOOKED_AT,
        MAX_NAME,
        MAX_SOCKET,
    ];
    let numbers = rows("\n## Limits\n");
    let numbers = numbers.iter().filter_map(|row| {
        let number = row.trim_end_matches(" |").rsplit(' ').next()?;
        number.replace(',', "").parse::<usize>().ok()
    });
    assert_eq!(numbers.collect::<Vec<_>>(), limits);

    let selectors = rows("\n### Selectors\n");
    let selectors = selectors
        .iter()
        .filter_map(|row| row.strip_prefix('`')?.split('`').next());
    let selectors: BTreeSet<_> = selectors.collect();
    assert_eq!(
        selectors,
        Selector::ALL.iter().map(|key| key.word()).collect()
    );
    let size = format!("up to {} MiB", MAX_SIZE >> 20);
    assert!(text.contains(&size), "{size}");
}

/// `settle` is for one value of `hold`, which is not the default.
#[test]
fn the_example_shows_the_default_of_settle() {
    let text = example().replace("hold = \"exit\"", "hold = \"settle\"");
    let example = parse(&[Source::new("policy.toml.example", &text)], &Machine).unwrap();
    assert_eq!(example.rules[0].hold, Hold::Settle(Hold::DEFAULT_SETTLE));
}
