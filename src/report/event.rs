// SPDX-License-Identifier: GPL-2.0-only
//! One verdict, as it is logged.

use std::fmt;

use serde::Serialize;

use crate::kernel::Source;
use crate::policy::{Effect, Errno, Hook, Mode, Verdict, Word};

/// One verdict of a launch that a rule watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Counts up from 0 with each verdict of this gate.
    pub id: u64,
    /// What was found.
    pub verdict: Verdict,
    /// What came of it.
    pub effect: Effect,
    /// Name of the rule.
    pub rule: String,
    /// What kind of launch it was.
    pub hook: Hook,
    /// The launching process.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its name before the launch.
    pub comm: String,
    /// The program that it asked for.
    pub exe: String,
    /// The CPU it ran on.
    pub cpu: u32,
    /// That CPU's node.
    pub node: u32,
    /// The cores that the rule needs.
    pub cores_needed: u32,
    /// The free cores of the node that the launch may use.
    pub cores_free: u32,
    /// Of these, the cores that claims are owed.
    pub cores_claimed: u32,
    /// Where that was read; `None` if nowhere.
    pub source: Option<Source>,
    /// The error that the launch failed with, if it did.
    pub errno: Option<Errno>,
    /// The mode at that moment.
    pub mode: Mode,
    /// The generation of the policy.
    pub generation: u32,
}

/// One line of `key=value` pairs, the effect first. What a user can choose is escaped, so
/// that no program's name can forge a line or a field.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rule={} verdict={} hook={} exe={:?} pid={} uid={} gid={} comm={:?} cpu={} \
             node={} cores_needed={} cores_free={} cores_claimed={} source={}",
            self.effect,
            self.rule,
            self.verdict,
            self.hook,
            self.exe,
            self.pid,
            self.uid,
            self.gid,
            self.comm,
            self.cpu,
            self.node,
            self.cores_needed,
            self.cores_free,
            self.cores_claimed,
            self.source.map_or("none", Word::word),
        )?;
        if let Some(errno) = self.errno {
            write!(f, " errno={}", errno)?;
        }
        write!(
            f,
            " mode={} generation={} id={}",
            self.mode, self.generation, self.id
        )
    }
}
