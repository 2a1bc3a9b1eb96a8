// SPDX-License-Identifier: GPL-2.0-only
//! Rules that never match, as the rules before them match all of their launches.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};

use crate::policy::{Container, PathPattern, Pattern, Rule, Selector, Selectors};

/// How many entries are compared before the search ends: for less than a second. More have only
/// policies with thousands of rules that differ just in what stands behind a `*`, or with lists of
/// thousands of entries.
const MOST_COMPARED: usize = 30_000_000;

/// The rules so far.
#[derive(Default)]
pub(super) struct Earlier<'p> {
    rules: Vec<&'p Rule>,
    /// Their indices by the keys of one of their selectors: that with which fewest others are
    /// found. See [`keys`].
    filed: HashMap<(Selector, String), Vec<usize>>,
    /// How long these keys are.
    lengths: HashMap<Selector, BTreeSet<usize>>,
    left: Left,
}

/// How many comparisons are left.
struct Left(Cell<usize>);

impl Default for Left {
    fn default() -> Self {
        Self(Cell::new(MOST_COMPARED))
    }
}

impl Left {
    fn one_less(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }
}

impl<'p> Earlier<'p> {
    /// Adds `rule`, unless all its launches are those of rules before it: one of these then.
    ///
    /// Several together are seen only where each has whole programs, users and kinds of launches.
    pub(super) fn shadow(&mut self, rule: &'p Rule) -> Option<&'p Rule> {
        let mut by = None;
        for part in parts(rule) {
            by = self.first(&part);
            if by.is_none() {
                self.file(rule);
                break;
            }
        }
        by
    }

    /// Whether the search has ended early.
    pub(super) fn gave_up(&self) -> bool {
        self.left.0.get() == 0
    }

    /// The first rule that matches all launches of `part`.
    fn first(&self, part: &Rule) -> Option<&'p Rule> {
        if self.gave_up() {
            return None;
        }
        let mut near = BTreeSet::new();
        for (selector, keys) in keys(&part.selectors) {
            for length in self.lengths.get(&selector).into_iter().flatten() {
                let starts = keys.iter().filter_map(|key| key.get(..*length));
                for start in starts {
                    let filed = self.filed.get(&(selector, start.into()));
                    near.extend(filed.into_iter().flatten().copied());
                }
            }
        }
        near.into_iter()
            .map(|index| self.rules[index])
            .find(|earlier| covers(earlier, part, &self.left))
    }

    fn file(&mut self, rule: &'p Rule) {
        let beside = |(selector, keys): &(Selector, Vec<String>)| {
            let filed = keys
                .iter()
                .filter_map(|key| self.filed.get(&(*selector, key.clone())));
            filed.map(Vec::len).sum::<usize>()
        };
        if let Some((selector, keys)) = keys(&rule.selectors).min_by_key(beside) {
            for key in keys {
                self.lengths.entry(selector).or_default().insert(key.len());
                let filed = self.filed.entry((selector, key)).or_default();
                filed.push(self.rules.len());
            }
            self.rules.push(rule);
        }
    }
}

/// The rule for one program, one kind of launch and one user at a time.
fn parts(rule: &Rule) -> impl Iterator<Item = Rule> {
    let Selectors { exe, user, .. } = &rule.selectors;
    let mut part = rule.clone();
    part.selectors.user.clear();
    each(exe).flat_map(move |exe| {
        part.selectors.exe = exe;
        let part = part.clone();
        each(user).flat_map(move |user| {
            let mut part = part.clone();
            part.selectors.user = user;
            rule.on.iter().map(move |on| Rule {
                on: vec![*on],
                ..part.clone()
            })
        })
    })
}

/// Each entry as a list; of an empty list, that.
fn each<T: Clone>(list: &[T]) -> impl Iterator<Item = Vec<T>> {
    let whole = list.is_empty().then(Vec::new);
    whole
        .into_iter()
        .chain(list.iter().map(|entry| vec![entry.clone()]))
}

/// Each selector that is given, but those of few values, with the start of each of its entries. If
/// one rule covers another, then one of its keys of each selector is the start of a key of the
/// other.
fn keys(s: &Selectors) -> impl Iterator<Item = (Selector, Vec<String>)> {
    let paths = |paths: &[PathPattern]| paths.iter().map(|path| start(&path.resolved)).collect();
    [
        (Selector::Exe, paths(&s.exe)),
        (Selector::Unit, s.unit.iter().map(start).collect()),
        (Selector::Cgroup, s.cgroup.clone()),
        (
            Selector::User,
            s.user.iter().map(|user| user.uid.to_string()).collect(),
        ),
        (
            Selector::Group,
            s.group.iter().map(|group| group.gid.to_string()).collect(),
        ),
        (Selector::Comm, s.comm.clone()),
        (Selector::Argv, s.argv.clone()),
        (Selector::Parent, paths(&s.parent)),
    ]
    .into_iter()
    .filter(|(_, keys)| !keys.is_empty())
}

fn start(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(start) | Pattern::Folder(start) => start.clone(),
        Pattern::Glob { prefix, .. } => prefix.clone(),
    }
}

/// Whether `a` matches each launch that `b` matches. It may say no where it does.
fn covers(a: &Rule, b: &Rule, left: &Left) -> bool {
    let on = left.one_less() && b.on.iter().all(|on| a.on.contains(on));
    let (a, b) = (&a.selectors, &b.selectors);
    let path = |a: &PathPattern, b: &PathPattern| wider(&a.resolved, &b.resolved);
    on && all_in(&a.exe, &b.exe, left, path)
        && all_in(&a.unit, &b.unit, left, wider)
        && all_in(&a.cgroup, &b.cgroup, left, |a, b| {
            b.strip_prefix(a.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
        && all_in(&a.user, &b.user, left, |a, b| a.uid == b.uid)
        && all_in(&a.group, &b.group, left, |a, b| a.gid == b.gid)
        && all_in(&a.comm, &b.comm, left, |a, b| a == b)
        // Of arguments each is asked for.
        && a.argv.iter().all(|arg| b.argv.contains(arg))
        && all_in(&a.parent, &b.parent, left, path)
        && (a.container == b.container || a.container == Container::Any)
}

/// Whether what meets the list `b` meets the list `a`.
fn all_in<T>(a: &[T], b: &[T], left: &Left, wider: impl Fn(&T, &T) -> bool) -> bool {
    let one = |b| a.iter().any(|a| left.one_less() && wider(a, b));
    a.is_empty() || (!b.is_empty() && b.iter().all(one))
}

/// Whether all that `b` stands for is what `a` stands for.
fn wider(a: &Pattern, b: &Pattern) -> bool {
    match (a, b) {
        (a, Pattern::Exact(whole)) => a.matches(whole.as_bytes()),
        (Pattern::Folder(folder), Pattern::Folder(start) | Pattern::Glob { prefix: start, .. }) => {
            start.starts_with(folder)
        }
        (
            Pattern::Glob { prefix, suffix },
            Pattern::Glob {
                prefix: start,
                suffix: end,
            },
        ) => {
            let rest = start.strip_prefix(prefix.as_str());
            rest.is_some_and(|rest| !rest.contains('/')) && end.ends_with(suffix)
        }
        _ => false,
    }
}
