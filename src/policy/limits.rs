// SPDX-License-Identifier: GPL-2.0-only
//! How much a policy may have: what the maps of the gate are sized for. Each is checked while a
//! policy is read, so that none is met at run time.

use std::collections::HashMap;
use std::ops::Range;

use super::diagnostic::Report;
use super::{Pattern, Selector, Selectors};

/// The most rules.
pub const MAX_RULES: usize = 16_384;

/// The most combinations of a program, a place (unit or cgroup) and a user that all rules together
/// may name, and of cgroups above the ones that they name.
pub const MAX_KEYS: usize = 65_536;

/// The most rules for the same program, place, user and first argument.
pub const MAX_RULES_OF_KEY: usize = 64;

/// The most entries of `group`, `comm` and `parent`, of `argv` beyond the first, and of `cgroup`
/// beside `unit`: those of one rule, and those of all rules.
pub const MAX_OTHERS_OF_RULE: usize = 64;
/// See [`MAX_OTHERS_OF_RULE`].
pub const MAX_OTHERS: usize = 65_536;

/// The most different strings in all rules together, the names in paths of cgroups included, and
/// the most bytes of them, each rounded up to 8.
pub const MAX_STRINGS: usize = 32_768;
/// See [`MAX_STRINGS`].
pub const MAX_STRING_BYTES: usize = 2 << 20;

/// The most folders and patterns with a `*` that one path or name can begin with. So a launch never
/// meets more of them than the gate keeps.
pub const MAX_SAME_BEGINNING: usize = 32;

/// The most patterns with a `*` in all rules together.
pub const MAX_GLOBS: usize = 16_384;

/// The longest path, unit or cgroup in a rule, in bytes, with and without its symbolic links
/// resolved. The gate's key for a path is 256 bytes with the NUL that ends it.
pub const MAX_PATTERN: usize = 255;

/// The longest `comm`, in bytes: `TASK_COMM_LEN` of the kernel, less its NUL.
pub const MAX_COMM: usize = 15;

/// The longest entry of `argv`, in bytes. The gate reads 128 bytes of each with its NUL.
pub const MAX_ARG: usize = 127;

/// The arguments of an exec that `argv` looks at, the program's name for itself included.
pub const ARGV_LOOKED_AT: usize = 8;

/// The longest path of a socket, in bytes: `sun_path` of unix(7), less its NUL.
pub const MAX_SOCKET: usize = 107;

/// The longest rule name, in bytes. It stands in every event of the rule.
pub const MAX_NAME: usize = 63;

/// What the rules so far have, against what all rules together may.
#[derive(Default)]
pub(super) struct Room {
    keys: usize,
    /// Rules by the numbers of a program, a place, a user and a first argument; 0 is for any.
    rules: HashMap<[u32; 4], usize>,
    rules_of_key: usize,
    /// The number of each string and cgroup, from 1.
    strings: HashMap<Selector, HashMap<Pattern, u32>>,
    cgroups: HashMap<String, u32>,
    numbers: u32,
    bytes: usize,
    globs: usize,
    same_beginning: usize,
    others: usize,
    others_of_rule: usize,
    /// Of each rule, the last number, and where it stands.
    ends: Vec<(u32, Range<usize>)>,
}

/// By limit: what it is of, how much it is, what to do about it, and what the rules have.
type Taken = [(&'static str, usize, &'static str, usize); 8];

impl Room {
    /// Adds those of the rule whose header is at `at`; the rule with which a limit is passed is
    /// told to the report.
    pub(super) fn take(&mut self, of: &Selectors, at: &Range<usize>, report: &mut Report<'_>) {
        let before = self.taken();
        self.take_keys(of);
        for parent in &of.parent {
            self.string(Selector::Parent, &parent.resolved);
        }
        for comm in &of.comm {
            self.string(Selector::Comm, &Pattern::Exact(comm.clone()));
        }
        let cgroups = if of.unit.is_empty() {
            0
        } else {
            of.cgroup.len()
        };
        let others = of.group.len()
            + of.comm.len()
            + of.parent.len()
            + of.argv.len().saturating_sub(1)
            + cgroups;
        self.others += others;
        self.others_of_rule = self.others_of_rule.max(others);
        self.ends.push((self.numbers, at.clone()));
        self.report(before, at, report);
    }

    /// Looks at what only all rules together show: those of a source, which the report is for, and
    /// of the sources before it.
    pub(super) fn finish(&mut self, report: &mut Report<'_>) {
        let before = self.taken();
        let (most, last) = self.alike();
        self.same_beginning = most;
        let rule = self.ends.partition_point(|(end, _)| *end < last);
        if let Some((_, at)) = self.ends.get(rule) {
            self.report(before, at, report);
        }
    }

    fn report(&self, before: Taken, at: &Range<usize>, report: &mut Report<'_>) {
        for ((name, limit, hint, now), (.., before)) in self.taken().into_iter().zip(before) {
            if before <= limit && now > limit {
                let message = format!(
                    "the rules up to this one have {now} {name}, and the gate has room for {limit}"
                );
                report.error(at.clone(), message, hint);
            }
        }
    }

    fn take_keys(&mut self, of: &Selectors) {
        let exes = of.exe.iter();
        let exes = exes.map(|exe| self.string(Selector::Exe, &exe.resolved));
        let exes = any_or(exes.collect());
        let units = of.unit.iter();
        let units: Vec<_> = units
            .map(|unit| self.string(Selector::Unit, unit))
            .collect();
        let cgroups: Vec<_> = of.cgroup.iter().map(|top| self.cgroup(top)).collect();
        let places = any_or(if units.is_empty() { cgroups } else { units });
        let args = of.argv.iter();
        let args = args.map(|arg| self.string(Selector::Argv, &Pattern::Exact(arg.clone())));
        let arg = any_or(args.collect())[0];
        let users = any_or(of.user.iter().map(|user| user.uid + 1).collect());
        self.keys += exes.len() * places.len() * users.len();
        if self.keys > MAX_KEYS {
            return;
        }
        for &exe in &exes {
            for &place in &places {
                for &user in &users {
                    let rules = self.rules.entry([exe, place, user, arg]).or_default();
                    *rules += 1;
                    self.rules_of_key = self.rules_of_key.max(*rules);
                }
            }
        }
    }

    /// The number of a string.
    fn string(&mut self, selector: Selector, pattern: &Pattern) -> u32 {
        let known = self.strings.entry(selector).or_default();
        if let Some(number) = known.get(pattern) {
            return *number;
        }
        self.numbers += 1;
        known.insert(pattern.clone(), self.numbers);
        let rounded = |text: &String| text.len().next_multiple_of(8);
        self.bytes += match pattern {
            Pattern::Exact(text) | Pattern::Folder(text) => rounded(text),
            Pattern::Glob { prefix, suffix } => {
                self.globs += 1;
                rounded(prefix) + rounded(suffix)
            }
        };
        self.numbers
    }

    /// The number of a cgroup, by its path.
    fn cgroup(&mut self, top: &str) -> u32 {
        for (end, _) in top.match_indices('/').skip(1).chain([(top.len(), "")]) {
            if !self.cgroups.contains_key(&top[..end]) {
                let name = top[..end].rsplit('/').next().unwrap_or_default();
                self.string(Selector::Unit, &Pattern::Exact(name.into()));
                self.numbers += 1;
                self.cgroups.insert(top[..end].into(), self.numbers);
            }
        }
        self.cgroups[top]
    }

    /// How many folders and patterns there are where most begin alike, and the last number of
    /// these.
    fn alike(&self) -> (usize, u32) {
        let mut most = (0, 0);
        for known in self.strings.values() {
            let beginnings = known.iter().filter_map(|(pattern, number)| match pattern {
                Pattern::Exact(_) => None,
                Pattern::Folder(text) | Pattern::Glob { prefix: text, .. } => {
                    Some((text.as_str(), *number))
                }
            });
            let mut sorted: Vec<_> = beginnings.collect();
            sorted.sort_unstable();
            // Those that a path can begin with which begins with the last of them.
            let mut alike: Vec<(&str, u32)> = Vec::new();
            for (text, number) in sorted {
                while alike
                    .pop_if(|(above, _)| !text.starts_with(*above))
                    .is_some()
                {}
                alike.push((text, number));
                if alike.len() >= most.0 {
                    let last = alike.iter().map(|(_, number)| *number).max();
                    most = most.max((alike.len(), last.unwrap_or_default()));
                }
            }
        }
        most
    }

    fn taken(&self) -> Taken {
        [
            (
                "combinations of a program, a unit or cgroup, and a user",
                MAX_KEYS,
                "shorten the lists of `exe`, `unit`, `cgroup` and `user`",
                self.keys + self.cgroups.len(),
            ),
            (
                "rules for one program, unit or cgroup, user and first argument",
                MAX_RULES_OF_KEY,
                "let one rule with lists stand for several of them",
                self.rules_of_key,
            ),
            (
                "entries of `group`, `comm`, `parent` and the like in one rule",
                MAX_OTHERS_OF_RULE,
                "make several rules of it",
                self.others_of_rule,
            ),
            (
                "entries of `group`, `comm`, `parent` and the like",
                MAX_OTHERS,
                "shorten these lists",
                self.others,
            ),
            (
                "different strings",
                MAX_STRINGS,
                "let a folder or a `*` stand for several of them",
                self.numbers as usize,
            ),
            (
                "bytes of strings",
                MAX_STRING_BYTES,
                "let a folder or a `*` stand for several of them",
                self.bytes,
            ),
            (
                "folders and patterns with a `*` that begin alike",
                MAX_SAME_BEGINNING,
                "let one folder or `*` stand for several of them",
                self.same_beginning,
            ),
            (
                "patterns with a `*`",
                MAX_GLOBS,
                "name folders instead",
                self.globs,
            ),
        ]
    }
}

/// These numbers, or 0 for any if there are none.
fn any_or(given: Vec<u32>) -> Vec<u32> {
    if given.is_empty() { vec![0] } else { given }
}
