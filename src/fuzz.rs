// SPDX-License-Identifier: GPL-2.0-only
//! Random policies, from text to tables: nothing panics or hangs, and what is said of a policy is
//! true of random launches. Most cases run in a release build: `cargo test --release --lib fuzz`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use crate::gate;
use crate::policy::{
    ARGV_LOOKED_AT, Answer, Found, Hook, Host, HostNode, Launch, Policy, SelectorSays, Source,
    Word, evaluate, explain, parse,
};
use crate::policy_file::warnings;

fn cases(many: u32) -> ProptestConfig {
    let few = cfg!(debug_assertions);
    ProptestConfig {
        cases: if few { many / 20 } else { many },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// How long a case may take on a busy machine. They take less than a thousandth of that.
const HANG: Duration = Duration::from_secs(20);

struct Machine;

impl Host for Machine {
    fn uid(&self, name: &str) -> Result<Option<u32>, String> {
        match name {
            "redis" => Ok(Some(101)),
            "ldap" => Err("the server does not answer".into()),
            _ => Ok(None),
        }
    }

    fn gid(&self, name: &str) -> Result<Option<u32>, String> {
        self.uid(name)
    }

    fn resolve(&self, _: &str) -> Option<String> {
        None
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        const NODE: HostNode = HostNode {
            number: 0,
            cores: 4,
        };
        Some(&[NODE])
    }
}

/// The policies of `tests/policy` and the example, but those that are long to no end.
fn corpus() -> Vec<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests/policy/ok", "tests/policy/bad"];
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(top.join(folder)).unwrap());
    let files = files.map(|file| file.unwrap().path());
    let mut texts: Vec<_> = files
        .chain([top.join("policy.toml.example")])
        .filter(|path| path.extension().is_some_and(|ext| ext != "stderr"))
        .map(|path| fs::read_to_string(path).unwrap())
        .filter(|text| text.len() < 4000)
        .collect();
    texts.sort();
    assert!(texts.len() > 100);
    texts
}

/// One way to spoil a text, or to mend it.
#[derive(Clone, Debug)]
enum Change {
    TakeOut(Index, usize),
    PutIn(Index, &'static str),
    PutAny(Index, char),
    Double(Index, usize),
    SwapLines(Index, Index),
    /// A line of another text.
    Borrow(Index, Index, Index),
}

const PIECES: &[&str] = &[
    "*",
    "/",
    "//",
    "/.",
    "\"",
    "'",
    "[",
    "]",
    "[[",
    "=",
    ",",
    "\n",
    "\\u0000",
    "0",
    "-1",
    "9999999999",
    "true",
    "{",
    "}",
    "#",
    "[[rule]]\n",
    "on = [\"fork\"]\n",
    "container = \"any\"\n",
    "é",
    "\u{202e}",
];

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let at = any::<Index>;
        prop_oneof![
            (at(), 1..20_usize).prop_map(|(at, len)| Self::TakeOut(at, len)),
            (at(), select(PIECES)).prop_map(|(at, piece)| Self::PutIn(at, piece)),
            (at(), any::<char>()).prop_map(|(at, c)| Self::PutAny(at, c)),
            (at(), 1..200_usize).prop_map(|(at, len)| Self::Double(at, len)),
            (at(), at()).prop_map(|(a, b)| Self::SwapLines(a, b)),
            (at(), at(), at()).prop_map(|(at, text, line)| Self::Borrow(at, text, line)),
        ]
    }

    fn make(&self, text: &str, corpus: &[String]) -> String {
        let chars: Vec<char> = text.chars().collect();
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        if chars.is_empty() {
            return "[gate]\n".into();
        }
        let with = |at: &Index, len: usize, new: &[char]| {
            let (start, mut chars) = (at.index(chars.len()), chars.clone());
            let end = chars.len().min(start + len);
            chars.splice(start..end, new.iter().copied());
            chars.into_iter().collect()
        };
        match self {
            Self::TakeOut(at, len) => with(at, *len, &[]),
            Self::PutIn(at, piece) => with(at, 0, &piece.chars().collect::<Vec<_>>()),
            Self::PutAny(at, c) => with(at, 0, &[*c]),
            Self::Double(at, len) => {
                let start = at.index(chars.len());
                let end = chars.len().min(start + len);
                with(at, 0, &chars[start..end])
            }
            Self::SwapLines(a, b) => {
                let (a, b) = (a.index(lines.len()), b.index(lines.len()));
                lines.swap(a, b);
                lines.concat()
            }
            Self::Borrow(at, text, line) => {
                let other: Vec<_> = text.get(corpus).split_inclusive('\n').collect();
                if !other.is_empty() {
                    lines.insert(at.index(lines.len()), other[line.index(other.len())]);
                }
                lines.concat()
            }
        }
    }
}

// Few values, so that rules and launches often meet.
const EXES: &[&str] = &[
    "/a", "/b", "/a/", "/a/b", "/a/b/", "/a/b/c", "/a/*", "/*", "/a*", "/a/b*", "/a/*b", "/a/bb*bb",
];
const UNITS: &[&str] = &["a", "a.slice", "a*", "*.slice", "a*a", "aa*aa"];
const CGROUPS: &[&str] = &["/a", "/a/a.slice", "/b", "/aa"];
const NAMES: &[&str] = &["a", "b", "c", "d"];
const CONTAINERS: &[&str] = &["host", "any", "only"];
const PATHS: &[&str] = &[
    "/a", "/b", "/a/b", "/a/b/c", "/a/b/c/d", "/a/bb", "/a/bbb", "/a/bbbb", "/a/bb/bb", "/ab", "",
];
const PLACES: &[&str] = &[
    "/",
    "/a",
    "/aa",
    "/aaa",
    "/a/a.slice",
    "/a/a.slice/b",
    "/b/aaaa",
    "/b/a/a",
    "/a.slicea",
    "",
];

/// The selectors of a rule, as the policy has them.
#[derive(Clone, Debug)]
struct Written {
    exe: BTreeSet<&'static str>,
    unit: BTreeSet<&'static str>,
    cgroup: BTreeSet<&'static str>,
    user: BTreeSet<u32>,
    group: BTreeSet<u32>,
    comm: BTreeSet<&'static str>,
    argv: BTreeSet<&'static str>,
    parent: BTreeSet<&'static str>,
    container: Option<&'static str>,
    on: Vec<Hook>,
}

/// Mostly nothing: a rule with everything never meets a launch.
fn some<T: Clone + Ord + std::fmt::Debug + 'static>(
    of: &'static [T],
    weight: f64,
) -> impl Strategy<Value = BTreeSet<T>> {
    option::weighted(weight, btree_set(select(of), 1..3)).prop_map(Option::unwrap_or_default)
}

fn written() -> impl Strategy<Value = Written> {
    let place = (some(EXES, 0.6), some(UNITS, 0.2), some(CGROUPS, 0.2));
    let who = (some(&[7, 8], 0.3), some(&[5, 6], 0.2), some(NAMES, 0.1));
    let how = (some(NAMES, 0.15), some(EXES, 0.1));
    let what = (
        option::of(select(CONTAINERS)),
        subsequence(Hook::ALL, 1..=3),
    );
    (place, who, how, what).prop_map(|(place, who, how, what)| {
        let (mut exe, unit, cgroup) = place;
        let ((user, group, comm), (argv, parent), (container, mut on)) = (who, how, what);
        if !(argv.is_empty() && parent.is_empty()) {
            on = vec![Hook::Exec];
        }
        if unit.is_empty() && cgroup.is_empty() && user.is_empty() && group.is_empty() {
            exe.insert("/a/b");
        }
        Written {
            exe,
            unit,
            cgroup,
            user,
            group,
            comm,
            argv,
            parent,
            container,
            on,
        }
    })
}

impl Written {
    fn text(&self, index: usize) -> String {
        let mut text = format!("[[rule]]\nname = \"r{index}\"\n");
        let mut key = |key: &str, list: String| {
            if list != "{}" {
                text += &format!("{key} = [{}]\n", list.trim_matches(['{', '}']));
            }
        };
        key("exe", format!("{:?}", self.exe));
        key("unit", format!("{:?}", self.unit));
        key("cgroup", format!("{:?}", self.cgroup));
        key("user", format!("{:?}", self.user));
        key("group", format!("{:?}", self.group));
        key("comm", format!("{:?}", self.comm));
        key("argv", format!("{:?}", self.argv));
        key("parent", format!("{:?}", self.parent));
        let on: Vec<_> = self.on.iter().map(|hook| hook.word()).collect();
        key("on", format!("{on:?}").trim_matches(['[', ']']).into());
        if let Some(container) = self.container {
            text += &format!("container = {container:?}\n");
        }
        text
    }

    /// What the policy says of a launch, by another way than the evaluator's.
    fn is_met(&self, launch: &Known) -> bool {
        fn one<T>(list: &BTreeSet<T>, is: impl Fn(&T) -> bool) -> bool {
            list.is_empty() || list.iter().any(is)
        }
        let places = || launch.cgroup.split('/').filter(|name| !name.is_empty());
        let above = || {
            let ends = launch.cgroup.match_indices('/').map(|(end, _)| end);
            ends.chain([launch.cgroup.len()])
                .map(|end| &launch.cgroup[..end])
        };
        let first = || launch.argv.iter().take(ARGV_LOOKED_AT);
        self.on.contains(&launch.hook)
            && one(&self.exe, |exe| is_path(exe, launch.exe))
            && one(&self.unit, |unit| places().any(|name| is_name(unit, name)))
            && one(&self.cgroup, |top| above().any(|path| path == *top))
            && one(&self.user, |uid| *uid == launch.uid)
            && one(&self.group, |gid| {
                launch.gid == *gid || launch.groups.contains(gid)
            })
            && one(&self.comm, |comm| *comm == launch.comm)
            && self.argv.iter().all(|arg| first().any(|a| a == arg))
            && one(&self.parent, |parent| is_path(parent, launch.parent))
            && match self.container {
                None | Some("host") => !launch.container,
                Some("only") => launch.container,
                _ => true,
            }
    }
}

fn is_path(pattern: &str, path: &str) -> bool {
    let (Some((folder, name)), Some((in_folder, as_name))) =
        (pattern.rsplit_once('/'), path.rsplit_once('/'))
    else {
        return false;
    };
    if name.is_empty() {
        // One of the folders that the path goes through.
        let mut above = path.match_indices('/').map(|(end, _)| &path[..end]);
        return above.any(|above| above == folder);
    }
    folder == in_folder && is_name(name, as_name)
}

/// By all ways to put something in the place of the star.
fn is_name(pattern: &str, name: &str) -> bool {
    if !pattern.contains('*') {
        return pattern == name;
    }
    let starts = 0..=name.len();
    let mut middles = starts.flat_map(|a| (a..=name.len()).map(move |b| &name[a..b]));
    middles.any(|middle| pattern.replace('*', middle) == name)
}

/// A launch of which everything is known.
#[derive(Clone, Debug)]
struct Known {
    hook: Hook,
    exe: &'static str,
    cgroup: &'static str,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    comm: &'static str,
    argv: Vec<&'static str>,
    parent: &'static str,
    container: bool,
}

fn known() -> impl Strategy<Value = Known> {
    let place = (select(PATHS), select(PLACES), select(PATHS));
    let who = (6..9_u32, (4..8_u32, vec(4..8_u32, 0..3)), select(NAMES));
    let how = (vec(select(NAMES), 0..12), select(Hook::ALL), any::<bool>());
    (place, who, how).prop_map(|(place, who, how)| {
        let (exe, cgroup, parent) = place;
        let ((uid, (gid, groups), comm), (argv, hook, container)) = (who, how);
        Known {
            hook,
            exe,
            cgroup,
            uid,
            gid,
            groups,
            comm,
            argv,
            parent,
            container,
        }
    })
}

impl Known {
    fn launch(&self) -> Launch<'_> {
        Launch {
            hook: self.hook,
            exe: Some(self.exe.as_bytes()),
            cgroup: Some(self.cgroup.as_bytes()),
            units: None,
            uid: Some(self.uid),
            gid: Some(self.gid),
            groups: Some(&self.groups),
            comm: Some(self.comm.as_bytes()),
            argv: Some(self.argv.iter().map(|arg| arg.as_bytes()).collect()),
            parent: Some(self.parent.as_bytes()),
            container: Some(self.container),
        }
    }

    /// The same, without what the bits say.
    fn forgotten(&self, bits: u16) -> Launch<'_> {
        let all = self.launch();
        let knows = |bit: u16| bits & 1 << bit == 0;
        Launch {
            hook: self.hook,
            exe: all.exe.filter(|_| knows(0)),
            cgroup: all.cgroup.filter(|_| knows(1)),
            units: None,
            uid: all.uid.filter(|_| knows(2)),
            gid: all.gid.filter(|_| knows(3)),
            groups: all.groups.filter(|_| knows(4)),
            comm: all.comm.filter(|_| knows(5)),
            argv: all.argv.filter(|_| knows(6)),
            parent: all.parent.filter(|_| knows(7)),
            container: all.container.filter(|_| knows(8)),
        }
    }
}

/// What is true of every policy and launch.
fn assert_sound(policy: &Policy, launches: &[(Known, u16)]) {
    gate::compile(policy);
    let warnings = warnings(policy, &Machine);
    let never = warnings
        .iter()
        .filter(|warning| warning.message.starts_with("it never matches"));
    let never: BTreeSet<_> = never
        .filter_map(|warning| warning.rule.as_deref())
        .collect();
    for (known, bits) in launches {
        let launch = known.launch();
        let found = evaluate(policy, &launch);
        let explanation = explain(policy, &launch);
        let said = explanation.rules(false);
        assert_eq!(explanation.found(), found);
        if let Found::Rule(rule) = found {
            let last = said.last().unwrap();
            let met = |says: &SelectorSays| says.answer == Answer::Met;
            assert_eq!(last.rule, policy.rules[rule].name);
            assert!(last.selectors.iter().all(met), "{last:?}");
        }
        let partly = evaluate(policy, &known.forgotten(*bits));
        match found {
            Found::Unknown(..) => panic!("{found:?} of {known:?}"),
            Found::Rule(rule) => assert!(!never.contains(policy.rules[rule].name.as_str())),
            Found::Nothing => {}
        }
        // Who knows less says the same, or less.
        match partly {
            Found::Unknown(open, _) => assert!(!matches!(found, Found::Rule(rule) if rule < open)),
            partly => assert_eq!(partly, found, "{known:?} without {bits:b}"),
        }
    }
}

proptest! {
    #![proptest_config(cases(60_000))]

    #[test]
    fn spoilt_policies(
        text in any::<Index>(),
        changes in vec(Change::any(), 1..8),
        drop_in in option::weighted(0.2, any::<Index>()),
        launches in vec((known(), any::<u16>()), 4),
    ) {
        thread_local! {
            static CORPUS: Vec<String> = corpus();
        }
        let start = Instant::now();
        let sources: Vec<_> = CORPUS.with(|corpus| {
            let whole = text.get(corpus).clone();
            let text = changes.iter().fold(whole, |text, change| change.make(&text, corpus));
            let drop_in = drop_in.map(|text| Source::new("d.toml", text.get(corpus)));
            [Source::new("p.toml", text)].into_iter().chain(drop_in).collect()
        });
        match parse(&sources, &Machine) {
            Ok(policy) => assert_sound(&policy, &launches),
            Err(errors) => assert!(!errors.render(false).is_empty()),
        }
        assert!(start.elapsed() < HANG, "{:?} for {sources:?}", start.elapsed());
    }

    #[test]
    fn whole_policies(
        rules in vec(written(), 1..7),
        drop_in in any::<Index>(),
        launches in vec((known(), any::<u16>()), 16),
    ) {
        let start = Instant::now();
        let texts: Vec<_> = rules.iter().enumerate().map(|(i, rule)| rule.text(i)).collect();
        let (first, second) = texts.split_at(drop_in.index(texts.len()));
        let sources = [first, second].map(|texts| Source::new("p.toml", texts.concat()));
        let policy = parse(&sources, &Machine).unwrap_or_else(|errors| panic!("{errors}"));
        assert_sound(&policy, &launches);
        for (known, _) in &launches {
            let expected = rules.iter().position(|rule| rule.is_met(known));
            let expected = expected.map_or(Found::Nothing, Found::Rule);
            assert_eq!(evaluate(&policy, &known.launch()), expected, "{known:?} in\n{}", texts.concat());
        }
        assert!(start.elapsed() < HANG, "{:?} for {texts:?}", start.elapsed());
    }
}
