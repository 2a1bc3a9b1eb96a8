// SPDX-License-Identifier: GPL-2.0-only
//! The state of the gate, for `coregate status` and its `--json`.

mod concerns;
mod screen;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Changes, Failures, Honour};
use crate::policy_file::counted;
pub use concerns::{Concern, Surroundings};
pub use screen::Room;
pub(crate) use screen::shortened;

/// How the gate stands at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the daemon.
    pub version: String,
    /// `observe` or `enforce`: how launches are judged now.
    pub mode: String,
    /// What the policy says of it.
    pub policy_mode: String,
    /// What root ordered over its head, in words: the mode, until when, by whom and why.
    pub order: Option<String>,
    /// For how long that holds without a daemon, in words; `None`: for ever.
    pub lease: Option<String>,
    /// The generation of the policy, from 1.
    pub generation: u32,
    /// The file or folder that the policy is read from.
    pub policy: String,
    /// How the last attempt to read it again went; `None` if there was none.
    pub reload: Option<Reload>,
    /// How such attempts, and those to let a rehearsed policy hold, went so far.
    pub reloads: Reloads,
    /// The hooks that are attached.
    pub hooks: usize,
    /// The loaded sched_ext scheduler, if any.
    pub scheduler: Option<Scheduler>,
    /// Where idleness is read now: `node`, `flat`, `runqueue`, or nowhere.
    pub source: Option<String>,
    /// The nodes that have cores, in the order of their numbers.
    pub nodes: Vec<Node>,
    /// The rules in file order.
    pub rules: Vec<Rule>,
    /// What became of the events.
    pub events: Events,
    /// Where they are logged, and what the daemon says.
    pub log: Vec<Sink>,
    /// What the gate or the daemon did not manage to do.
    pub failures: Failures,
    /// The policy that is rehearsed, if there is one.
    pub rehearsal: Option<Rehearsal>,
}

/// An attempt to read the policy again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// When, as RFC 3339 has it, in UTC.
    pub time: String,
    /// Why the policy before stays, if it does: the first mistake, with its place.
    pub error: Option<String>,
}

/// Attempts to let another policy hold, since the daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloads {
    /// Those after which it holds.
    pub done: u64,
    /// Those after which the one before stays.
    pub refused: u64,
}

/// A policy that is rehearsed, and how it differs from the one that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Its file, as it was named.
    pub policy: String,
    /// Its mode.
    pub mode: String,
    /// How many rules it has.
    pub rules: usize,
    /// When it began, as RFC 3339 has it, in UTC.
    pub since: String,
    /// What it would change.
    pub changes: Changes,
}

/// The loaded sched_ext scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// Its name.
    pub ops: String,
    /// Whether it keeps idle masks per node.
    pub per_node: bool,
    /// Whether it leaves idle tracking to the kernel.
    pub tracking: bool,
}

/// A NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub node: u32,
    /// Its cores with an online thread.
    pub cores: u32,
    /// Its free cores; the core that answers the question is not one.
    pub free: u32,
    /// The cores that claims hold.
    pub claimed: u32,
    /// Of these, the ones that their holders do not have to themselves now: others are not
    /// admitted to them.
    pub owed: u32,
}

/// A rule and its exact counts since the gate stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Where it stands: file:line.
    pub origin: String,
    /// What the companion keeps away from the cores of its programs: `strict`, `prefer`, `none`.
    pub isolation: String,
    /// Launches that it watched.
    pub launches: u64,
    /// Launches that went on without a word against them.
    pub admitted: u64,
    /// Launches that failed with its error.
    pub denied: u64,
    /// Launches that went on although they would be denied in enforce.
    pub would_deny: u64,
    /// Launches for which idleness could not be known; each also counts as what came of it.
    pub unknown: u64,
    /// Events that the rate limit held back.
    pub suppressed: u64,
    /// Live claims.
    pub claims: u64,
    /// Whether its programs had their cores to themselves.
    #[serde(flatten)]
    pub honour: Honour,
}

/// What became of the events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Events that were read and given to each sink of the log.
    pub emitted: u64,
    /// Events that the rate limit held back.
    pub suppressed: u64,
    /// Events that found the ring buffer full, and records that could not be read. What is lost
    /// on the way from here to a log is counted there.
    pub lost: u64,
}

/// A sink of the log, and what became of the lines for it since the daemon runs: each is one of
/// written, lost or waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sink {
    /// `stderr`, `journal`, `syslog`, `rfc5424`, `file`, `audit`; or `removed`, for all that an
    /// earlier policy had.
    pub name: String,
    /// The path that it writes to.
    pub place: String,
    /// Lines that it has taken.
    pub written: u64,
    /// Lines that it has not taken, and will not.
    pub lost: u64,
    /// Lines on their way.
    pub waiting: u64,
    /// Why the last line was lost that was.
    pub error: Option<String>,
}

impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "rehearsed since {}: {}, mode {}, {}\n",
            self.since,
            self.policy,
            self.mode,
            counted(self.rules, "rule")
        )?;
        writeln!(f, "{}", self.changes)
    }
}
