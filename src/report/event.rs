// SPDX-License-Identifier: GPL-2.0-only
//! One verdict, as it is logged and as it is recorded.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kernel::Source;
use crate::policy::{Effect, Errno, Hook, Launch, Mode, Scope, Verdict, Word};

/// One verdict of a launch that a rule watches. Bytes of the launch that are not UTF-8 are
/// replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// Counts up from 0 with each verdict of this gate.
    pub id: u64,
    /// What was found.
    pub verdict: Verdict,
    /// What came of it.
    pub effect: Effect,
    /// Name of the rule.
    pub rule: String,
    /// Where the rule stands: file:line.
    pub origin: Option<String>,
    /// What kind of launch it was.
    pub hook: Hook,
    /// The launching process.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups; `None` if they are more than are recorded.
    pub groups: Option<Vec<u32>>,
    /// Its name before the launch.
    pub comm: String,
    /// The program that it asked for.
    pub exe: String,
    /// Its first arguments; `None` if no rule that could be for the program asks for any.
    pub argv: Option<Vec<String>>,
    /// The program that asked for it; likewise.
    pub parent: Option<String>,
    /// The systemd unit of the launcher, if it is in one.
    pub unit: Option<String>,
    /// The cgroup of the launcher in the unified hierarchy; `None` if its path is too long.
    pub cgroup: Option<String>,
    /// Whether it passes for a container's; see [`crate::policy::Container`].
    pub container: bool,
    /// The CPU it ran on.
    pub cpu: u32,
    /// That CPU's node.
    pub node: u32,
    /// The cores that the rule needs.
    pub cores_needed: u32,
    /// Where they may lie, and whether the launcher's own core may be one of them; `None` if the
    /// rule is not known.
    pub scope: Option<Scope>,
    /// Likewise.
    pub own_core: Option<bool>,
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
    /// How many events of the rule were held back since the one before.
    pub suppressed: u64,
}

impl Event {
    /// The names and values of all that is known, as logs with fields have them: those of the
    /// JSON, without what is null there; lists are JSON.
    pub fn fields(&self) -> Vec<(String, String)> {
        fields(self)
    }

    /// What is known of the launch.
    pub fn launch(&self) -> Launch<'_> {
        Launch {
            exe: Some(self.exe.as_bytes()),
            cgroup: self.cgroup.as_ref().map(String::as_bytes),
            uid: Some(self.uid),
            gid: Some(self.gid),
            groups: self.groups.as_deref(),
            comm: Some(self.comm.as_bytes()),
            argv: self
                .argv
                .as_ref()
                .map(|argv| argv.iter().map(String::as_bytes).collect()),
            parent: self.parent.as_ref().map(String::as_bytes),
            container: Some(self.container),
            ..Launch::unknown(self.hook)
        }
    }
}

/// How the names of units end that have a cgroup (systemd.unit(5)).
const UNIT_SUFFIXES: &[&str] = &[".service", ".scope", ".slice", ".socket", ".mount", ".swap"];

/// The systemd unit that a cgroup belongs to: the lowest name on its path that is one's.
pub fn unit_of(cgroup: &str) -> Option<&str> {
    let is_unit = |name: &&str| UNIT_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    cgroup.rsplit('/').find(is_unit)
}

/// The names and values of a record that are not null.
pub(super) fn fields(record: &impl Serialize) -> Vec<(String, String)> {
    let value = serde_json::to_value(record).unwrap_or_default();
    let fields = value.as_object().into_iter().flatten();
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    fields
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// A time in UTC with microseconds, as text.
pub(super) mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer>(
        time: &SystemTime,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_micros(*time))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        humantime::parse_rfc3339(&text)
            .map_err(|error| D::Error::custom(format!("{error}: {text}")))
    }
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

#[cfg(test)]
pub(super) mod tests;
