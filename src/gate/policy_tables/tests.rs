// SPDX-License-Identifier: GPL-2.0-only
use std::ops::Range;

use super::*;
use crate::policy::{self, NoHost, PathPattern, Source, parse};

fn path(text: &str) -> PathPattern {
    PathPattern {
        text: format!("/link/to{text}"),
        resolved: Pattern::new(text),
    }
}

fn rule(name: &str, exe: &str, uid: Option<u32>) -> Rule {
    Rule::sample(name, path(exe), uid)
}

fn tables(rules: Vec<Rule>) -> PolicyTables {
    PolicyTables::new(
        &Policy {
            mode: Mode::Enforce,
            on_unknown: Some(OnUnknown::Deny),
            rules,
            ..Policy::default()
        },
        7,
    )
}

impl PolicyTables {
    /// The maps have room for all of it, and a launch looks at all of it.
    pub(in crate::gate) fn assert_fits(&self) {
        use abi::limits as limit;
        let each = |of: fn(&abi::key) -> bool| self.keys.iter().filter(move |key| of(key));
        let rules_of_keys = each(|key| key.exe != abi::key_exe::EDGE.0).map(|key| key.count);
        let literals = self.candidates.iter().map(|candidate| candidate.literals);
        let globs = self.strings.iter().filter(|string| {
            let glob = |kind: abi::string_kind| string.kind.0 == kind.0 + 2;
            [
                abi::string_kind::STRING_EXE,
                abi::string_kind::STRING_PARENT,
                abi::string_kind::STRING_NAME,
            ]
            .into_iter()
            .any(glob)
        });
        let suffixes = globs.map(|glob| glob.atom.into());
        for (name, most, is) in [
            ("strings", limit::STRING_SLOTS, self.strings.len()),
            ("pool", limit::POOL_WORDS, self.pool.len()),
            ("suffixes", limit::SUFFIXES_MAX, self.suffixes.len()),
            ("keys", limit::KEY_SLOTS, self.keys.len()),
            ("candidates", limit::CANDIDATES_MAX, self.candidates.len()),
            ("literals", limit::LITERALS_MAX, self.literals.len()),
            ("rules", limit::RULES_MAX, self.rules.len()),
            (
                "candidates of a key",
                limit::CANDIDATES_EACH,
                most(rules_of_keys),
            ),
            ("literals of a rule", limit::LITERALS_EACH, most(literals)),
            ("suffixes of a prefix", limit::SUFFIXES_EACH, most(suffixes)),
        ] {
            assert!(is <= most.0 as usize, "{is} {name}, {} fit", most.0);
        }
    }

    /// The number of the string of this kind.
    fn atom(&self, kind: abi::string_kind, text: &str) -> u32 {
        let half = abi::limits::POOL_WORDS.0;
        let bytes: Vec<u8> = self
            .pool
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let has_text = |string: &&abi::string| {
            let first = (string.words - half) as usize * 8;
            bytes.get(first..first + usize::from(string.length)) == Some(text.as_bytes())
        };
        let of_kind = self.strings.iter().filter(|string| string.kind == kind);
        let found: Vec<_> = of_kind.filter(has_text).collect();
        assert_eq!(found.len(), 1, "{text}");
        u32::from(found[0].atom)
    }

    /// The rules of a key, with their hooks.
    fn rules_of(&self, exe: u32, user: u32) -> Vec<(u32, u32)> {
        let key = self.keys.iter().find(|key| {
            key.count > 0 && (key.exe, key.place, key.user, key.arg) == (exe, 0, user, 0)
        });
        let Some(key) = key else {
            return Vec::new();
        };
        let first = (key.first - abi::limits::CANDIDATES_MAX.0) as usize;
        self.candidates[first..first + key.count as usize]
            .iter()
            .map(|candidate| (candidate.rule, candidate.hooks))
            .collect()
    }
}

fn most(counts: impl Iterator<Item = u32>) -> usize {
    counts.max().unwrap_or(0) as usize
}

/// Rules that have these keys.
fn written(keys: impl Iterator<Item = String>) -> String {
    let rule = |(number, keys)| format!("[[rule]]\nname = \"r{number}\"\n{keys}\n");
    (0..).zip(keys).map(rule).collect()
}

/// A list for a key, of so many entries.
fn list<T: std::fmt::Debug>(key: &str, of: Range<usize>, entry: impl Fn(usize) -> T) -> String {
    format!("{key} = {:?}\n", of.map(entry).collect::<Vec<_>>())
}

/// Rules with so many entries in their lists, all in all, and at most so many in each.
fn lists<T: std::fmt::Debug>(
    key: &str,
    all: usize,
    each: usize,
    entry: impl Fn(usize) -> T,
) -> String {
    let starts = (0..all).step_by(each);
    let lists = starts.map(|start| {
        let list = list(key, start..all.min(start + each), &entry);
        if key == "exe" {
            list
        } else {
            format!("exe = \"/{start}\"\n{list}")
        }
    });
    written(lists)
}

/// 256 programs or cgroups for so many users, and so many programs.
fn products(key: &str, users: usize, more: usize) -> String {
    let product = list(key, 0..256, |number| format!("/{number}")) + &list("user", 0..users, |u| u);
    let more = (0..more).map(|number| format!("exe = \"/more-{number}\""));
    written([product].into_iter().chain(more))
}

/// A limit: a policy of so much, what there is of it in its tables, and how a message calls it.
type Limit = (
    usize,
    fn(usize) -> String,
    fn(&PolicyTables) -> usize,
    &'static str,
);

const LIMITS: &[Limit] = &[
    (
        policy::MAX_KEYS,
        |n| products("exe", n / 256, n % 256),
        |tables| tables.candidates.len(),
        "combinations of a program, a unit or cgroup, and a user",
    ),
    (
        policy::MAX_KEYS,
        // There is a step to each cgroup too.
        |n| products("cgroup", n / 256 - 1, n % 256),
        |tables| tables.keys.iter().filter(|key| key.count > 0).count(),
        "combinations of a program, a unit or cgroup, and a user",
    ),
    (
        policy::MAX_RULES_OF_KEY,
        |n| written((0..n).map(|comm| format!("exe = \"/x\"\ncomm = \"{comm}\""))),
        |tables| most(tables.keys.iter().map(|key| key.count)),
        "rules for one program, unit or cgroup, user and first argument",
    ),
    (
        policy::MAX_OTHERS_OF_RULE,
        |n| lists("group", n, n, |gid| gid),
        |tables| tables.literals.len(),
        "entries of `group`, `comm`, `parent` and the like in one rule",
    ),
    (
        policy::MAX_OTHERS,
        |n| lists("group", n, policy::MAX_OTHERS_OF_RULE, |gid| gid),
        |tables| tables.literals.len(),
        "entries of `group`, `comm`, `parent` and the like",
    ),
    (
        policy::MAX_STRINGS,
        |n| lists("exe", n, 64, |exe| format!("/{exe}")),
        |tables| {
            let kinds = tables.strings.iter().map(|string| string.kind);
            kinds
                .filter(|kind| *kind != abi::string_kind::STRING_NONE)
                .count()
        },
        "different strings",
    ),
    (
        policy::MAX_STRING_BYTES,
        // All but the last have 256 bytes when rounded up.
        |n| lists("exe", n.div_ceil(256), 64, |exe| format!("/{exe:0254}")),
        |tables| tables.pool.len() * 8,
        "bytes of strings",
    ),
    (
        policy::MAX_SAME_BEGINNING,
        |n| lists("exe", n, n, |suffix| format!("/x*{suffix}")),
        |tables| tables.suffixes.len(),
        "folders and patterns with a `*` that begin alike",
    ),
    (
        policy::MAX_SAME_BEGINNING,
        |n| lists("parent", n, n, |depth| "/x".repeat(depth + 1) + "/"),
        |tables| tables.literals.len(),
        "folders and patterns with a `*` that begin alike",
    ),
    (
        policy::MAX_GLOBS,
        |n| lists("exe", n, 64, |exe| format!("/{exe:05}*")),
        |tables| tables.suffixes.len(),
        "patterns with a `*`",
    ),
];

#[test]
fn what_fits_by_the_limits_fits_into_the_tables() {
    for (limit, text, count, words) in LIMITS {
        let policy = parse(&[Source::new("p.toml", text(*limit))], &NoHost);
        let policy = policy.unwrap_or_else(|errors| panic!("{words}: {errors}"));
        let tables = PolicyTables::new(&policy, 7);
        tables.assert_fits();
        assert_eq!(count(&tables), *limit, "{words}");
        let errors = parse(&[Source::new("p.toml", text(limit + 1))], &NoHost).unwrap_err();
        let messages: Vec<_> = errors.list().iter().map(|error| &error.message).collect();
        let [message] = &messages[..] else {
            panic!("{messages:?}")
        };
        let end = format!(" {words}, and the gate has room for {limit}");
        assert!(message.ends_with(&end), "{message}");
    }
    assert_eq!(policy::MAX_RULES, abi::limits::RULES_MAX.0 as usize);
    assert_eq!(
        policy::MAX_SAME_BEGINNING,
        abi::limits::SUFFIXES_EACH.0 as usize
    );
}

#[test]
fn a_key_has_the_rules_that_can_be_for_it_in_order() {
    let tables = tables(vec![
        rule("a", "/bin/x", Some(5)),
        rule("b", "/bin/x", None),
        rule("c", "/bin/x", Some(5)),
        rule("d", "/bin/y", None),
        rule("e", "/bin/x", None),
    ]);
    let exe = |path| tables.atom(abi::string_kind::STRING_EXE, path);
    let (x, y) = (exe("/bin/x"), exe("/bin/y"));
    assert_ne!(x, y);
    // What an earlier one leaves nothing is not there.
    assert_eq!(tables.rules_of(x, 0), [(1, 1)]);
    assert_eq!(tables.rules_of(x, 6), [(0, 1)]);
    assert_eq!(tables.rules_of(y, 0), [(3, 1)]);
    assert_eq!(tables.rules_of(y, 6), []);
    assert_eq!(tables.settings.watched, 1);
    assert_eq!(tables.settings.unfiltered, 0);
    assert_eq!(tables.settings.shapes, 0);
    assert_eq!(tables.settings.generation, 7);
    assert_eq!(tables.rules.len(), 5);
    assert!(
        tables.rules.iter().all(|rule| rule.denial == -16),
        "{:?}",
        tables.rules
    );
}

#[test]
fn a_later_rule_for_other_hooks_stays() {
    let on = |name: &str, on: &[Hook]| Rule {
        on: on.into(),
        ..rule(name, "/bin/x", None)
    };
    let tables = tables(vec![
        on("a", &[Hook::Thread]),
        on("b", &[Hook::Fork, Hook::Thread]),
        on("c", &[Hook::Fork]),
    ]);
    let exe = tables.atom(abi::string_kind::STRING_EXE, "/bin/x");
    assert_eq!(tables.rules_of(exe, 0), [(0, 0b100), (1, 0b110)]);
    assert_eq!(tables.settings.watched, 0b110);
}

#[test]
fn the_filter_is_for_whole_paths_only() {
    let on_fork = Rule {
        on: vec![Hook::Fork],
        ..rule("b", "/opt/x*", None)
    };
    let tables = tables(vec![rule("a", "/bin/x", None), on_fork]);
    assert_eq!(tables.settings.unfiltered, 0b010);
    assert_eq!(tables.suffixes.len(), 1);
}

#[test]
fn every_entry_is_near_the_slot_of_its_hash() {
    let rules = (0..5000).map(|number| rule("a", &format!("/opt/prog{number:03}"), Some(number)));
    let tables = tables(rules.collect());
    let size = tables.strings.len();
    assert!(size.is_power_of_two() && size >= 10_000);
    let mut found = 0;
    for (slot, string) in (0..).zip(&tables.strings) {
        if string.kind != abi::string_kind::STRING_NONE {
            let distance = usize::wrapping_sub(slot, slots::own(string.hash)) & (size - 1);
            assert!(distance < abi::limits::PROBES.0 as usize, "{distance}");
            found += 1;
        }
    }
    assert_eq!(found, 5000);
}

#[test]
fn a_rule_says_where_and_how_long_it_holds() {
    let tables = tables(vec![
        Rule {
            scope: Scope::Nodes(vec![0, 3, 63, 64]),
            hold: Hold::Settle(Duration::from_millis(250)),
            isolation: Isolation::Prefer,
            keep: Duration::from_millis(10),
            own_core: Some(true),
            ..rule("a", "/bin/x", None)
        },
        Rule {
            scope: Scope::Any,
            hold: Hold::None,
            keep: Duration::ZERO,
            ..rule("b", "/bin/y", None)
        },
    ]);
    let [a, b] = &tables.rules[..] else { panic!() };
    assert_eq!(a.scope, abi::scope::SCOPE_SPREAD);
    assert_eq!(a.nodes, 1 << 63 | 0b1001);
    assert_eq!((a.hold, a.settle_ns), (abi::hold::HOLD_SETTLE, 250_000_000));
    let kept = |rule: &abi::rule| (rule.isolation, rule.keep_ns);
    assert_eq!(kept(a), (abi::isolation::ISOLATION_PREFER, 10_000_000));
    assert_eq!(kept(b), (abi::isolation::ISOLATION_STRICT, 0));
    assert_eq!((a.own_core, b.own_core), (0b111, 0b001));
    assert_eq!((b.scope, b.nodes), (abi::scope::SCOPE_ANY, u64::MAX));
    assert_eq!(b.hold, abi::hold::HOLD_NONE);
}

#[test]
fn the_filter_has_the_bit_of_each_name_and_no_other() {
    let tables = tables(vec![
        rule("a", "/opt/exchange/matcher", None),
        rule("b", "/bin/x", None),
    ]);
    let set: u32 = tables
        .name_filter
        .iter()
        .map(|word| word.count_ones())
        .sum();
    assert_eq!(set, 2);
    assert_eq!(
        name_bit(b"/other/folder/matcher"),
        name_bit(b"/opt/exchange/matcher")
    );
    assert_ne!(name_bit(b"/bin/x"), name_bit(b"/bin/y"));
    // Names that agree in their first 8 bytes are told apart by their length.
    assert_ne!(name_bit(b"/bin/matcher-a"), name_bit(b"/bin/matcher-ab"));
    // Names that differ in one of the bytes that count.
    for place in 0..8 {
        let mut name = *b"/bin/matchers";
        name["/bin/".len() + place] = b'_';
        assert_ne!(name_bit(&name), name_bit(b"/bin/matchers"), "byte {place}");
    }
}
