// SPDX-License-Identifier: GPL-2.0-only
//! From launches that were seen to a policy to begin with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use super::Event;
use crate::policy::{MAX_NAME, MAX_PATTERN, Verdict};

/// How many programs are kept apart, and how many of the last processes of each.
const PROGRAMS: usize = 1024;
const PROCESSES: usize = 16;

/// How many of those that do not run any more are shown.
const ENDED_SHOWN: usize = 20;

/// Launches by the program, the user and the unit.
#[derive(Debug, Default)]
pub struct Seen {
    programs: BTreeMap<Program, Launches>,
    launches: u64,
    left_out: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Program {
    exe: String,
    uid: u32,
    unit: Option<String>,
}

#[derive(Debug, Default)]
struct Launches {
    all: u64,
    /// Those for which there was no free core.
    denied: u64,
    pids: VecDeque<u32>,
}

/// What of this machine goes into the text.
pub struct Watched<'a> {
    /// The name of a user.
    pub user: &'a dyn Fn(u32) -> Option<String>,
    /// Whether this process still runs this program.
    pub runs: &'a dyn Fn(u32, &str) -> bool,
    /// The shells of users.
    pub shells: BTreeSet<String>,
    /// For how long launches were watched, in words.
    pub time: String,
    /// Launches that were not seen, as there were too many at a time.
    pub lost: u64,
}

impl Seen {
    /// Counts one more.
    pub fn add(&mut self, event: &Event) {
        self.launches += 1;
        // The scopes of sessions have numbers, and any user can give a cgroup any name.
        let service = |unit: &&String| unit.ends_with(".service") && !unit.contains(is_strange);
        let program = Program {
            exe: event.exe.clone(),
            uid: event.uid,
            unit: event.unit.as_ref().filter(service).cloned(),
        };
        let is_new = !self.programs.contains_key(&program);
        if is_new && self.programs.len() == PROGRAMS {
            self.left_out += 1;
            return;
        }
        let launches = self.programs.entry(program).or_default();
        launches.all += 1;
        launches.denied += u64::from(event.verdict == Verdict::Deny);
        if launches.pids.len() == PROCESSES {
            launches.pids.pop_front();
        }
        launches.pids.push_back(event.pid);
    }

    /// The policy, with what it rests on in comments.
    pub fn policy(&self, around: &Watched<'_>) -> String {
        let mut rules: Vec<_> = self
            .programs
            .iter()
            .map(|(program, launches)| {
                let pids = launches.pids.iter();
                let running = pids.filter(|pid| (around.runs)(**pid, &program.exe));
                (running.count(), launches.all, program, launches)
            })
            .collect();
        rules.sort_by_key(|(running, all, ..)| std::cmp::Reverse((*running, *all)));
        let mut names = BTreeSet::new();
        let (mut stand, mut ended, mut more) = (String::new(), String::new(), 0);
        let mut shown = 0;
        for (running, _, program, launches) in rules {
            let reason = program.unfit(running, &around.shells);
            let text = rule(program, launches, (running, reason), (around, &mut names));
            match reason {
                None => stand += &text,
                Some(_) if shown < ENDED_SHOWN => {
                    shown += 1;
                    ended += &text;
                }
                Some(_) => more += 1,
            }
        }
        let mut text = self.head(around);
        if stand.is_empty() {
            text += "\n# No program that was launched meanwhile still ran at the end.\n";
        }
        text += &stand;
        if !ended.is_empty() {
            text += "\n# What follows most likely needs no core of its own. Take the \"#\" away where it does.\n";
        }
        text += &ended;
        if more > 0 {
            let _ = writeln!(text, "\n# {more} more such programs are left out.");
        }
        text
    }

    fn head(&self, around: &Watched<'_>) -> String {
        let Self {
            launches, left_out, ..
        } = self;
        let Watched { time, lost, .. } = around;
        let mut text = format!(
            "# A policy to begin with, by {launches} launches that were seen in {time}.\n\
             # What ran before that, and what is launched in containers, was not seen.\n"
        );
        if *left_out > 0 {
            let _ = writeln!(
                text,
                "# {left_out} of them are left out: no more than {PROGRAMS} programs are kept apart."
            );
        }
        if *lost > 0 {
            let _ = writeln!(
                text,
                "# {lost} more were not seen: there were too many at a time."
            );
        }
        text += "#\n# Take out the rules of programs that need no core of their own, then:\n\
                 #\n#     coregate check FILE\n#     coregate mode rehearse FILE\n\
                 \n[gate]\n# It denies nothing: the log says what would be denied.\nmode = \"observe\"\n";
        text
    }
}

impl Program {
    /// Why there is no rule for it.
    fn unfit(&self, running: usize, shells: &BTreeSet<String>) -> Option<&'static str> {
        let Self { exe, .. } = self;
        if !exe.starts_with('/') || exe.len() > MAX_PATTERN || exe.contains(is_strange) {
            Some("a rule cannot name it")
        } else if shells.contains(exe) {
            Some("it is a shell")
        } else if running == 0 {
            Some("it does not stay")
        } else {
            None
        }
    }
}

/// What a rule cannot have, or would take for a pattern; and what was no UTF-8.
fn is_strange(char: char) -> bool {
    char.is_control() || char == '*' || char == '\u{fffd}'
}

/// One rule, with `#` before each line if there is a reason not to have it.
fn rule(
    program: &Program,
    launches: &Launches,
    (running, reason): (usize, Option<&str>),
    (around, names): (&Watched<'_>, &mut BTreeSet<String>),
) -> String {
    let Program { exe, uid, unit } = program;
    let user = (around.user)(*uid);
    let who = user.clone().unwrap_or_else(|| uid.to_string());
    let place = unit
        .as_ref()
        .map_or(String::new(), |unit| format!(" in {unit}"));
    let Launches { all, denied, .. } = launches;
    let why = reason.map_or(String::new(), |reason| format!("; {reason}"));
    let mut text = format!(
        "\n# By {who}{place}: {all} launches, {denied} of them without a free core, {running} still \
         running{why}.\n"
    );
    let hash = if reason.is_some() { "#" } else { "" };
    let quoted = |text: &str| match text.contains(is_strange) {
        true => format!("{text:?}"),
        false => toml::Value::from(text).to_string(),
    };
    let mut line = |line: String| {
        let _ = writeln!(text, "{hash}{line}");
    };
    line("[[rule]]".into());
    line(format!("name = {}", quoted(&name(exe, names))));
    line(format!("exe = {}", quoted(exe)));
    match user {
        Some(user) => line(format!("user = {}", quoted(&user))),
        None => line(format!("user = {uid}")),
    }
    if let Some(unit) = unit {
        line(format!("unit = {}", quoted(unit)));
    }
    text
}

/// A name for a rule that no other one has.
fn name(exe: &str, names: &mut BTreeSet<String>) -> String {
    let last = exe.rsplit('/').next().unwrap_or_default();
    let fits = |char: &char| char.is_ascii_alphanumeric() || "._-".contains(*char);
    let name: String = last.chars().filter(fits).take(MAX_NAME - 5).collect();
    let name = if name.is_empty() {
        "program".into()
    } else {
        name
    };
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut all = std::iter::once(name.clone()).chain(numbered);
    all.find(|name| names.insert(name.clone())).unwrap_or(name)
}

#[cfg(test)]
mod tests;
