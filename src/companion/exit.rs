// SPDX-License-Identifier: GPL-2.0-only
//! Why the companion left.

use std::fmt;

use super::skel::types::{farewell, leave};

/// Why the kernel no longer runs the companion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScxExit {
    /// It ended by itself.
    Done,
    /// It was taken out by the process that had put it in.
    Unregistered,
    /// The kernel took it out because what it was told of the machine is no
    /// longer true, and asks for a new start; CPU hotplug does that.
    Restart(Words),
    /// The kernel took it out for another reason of its own.
    Removed(Words),
    /// Somebody pressed SysRq-S, or wrote `S` to `/proc/sysrq-trigger`.
    Sysrq(Words),
    /// The kernel ejected it because of an error.
    Error(Words),
    /// It ejected itself because of an error.
    OwnError(Words),
    /// The kernel ejected it because a task waited too long for a CPU.
    Stall(Words),
    /// For a reason that this version has no name for: the kernel's number.
    Other(i32, Words),
}

/// The kernel's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// A fixed text for each kind of exit.
    pub reason: String,
    /// The particulars; may be empty.
    pub message: String,
}

impl ScxExit {
    /// Whether it left because it was asked to.
    pub fn is_orderly(&self) -> bool {
        matches!(self, Self::Done | Self::Unregistered)
    }

    /// A short name for the kind of exit.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unregistered => "unregistered",
            Self::Restart(_) => "restart",
            Self::Removed(_) => "removed",
            Self::Sysrq(_) => "sysrq",
            Self::Error(_) => "error",
            Self::OwnError(_) => "own error",
            Self::Stall(_) => "stall",
            Self::Other(..) => "other",
        }
    }

    fn words(&self) -> Option<&Words> {
        match self {
            Self::Done | Self::Unregistered => None,
            Self::Restart(words)
            | Self::Removed(words)
            | Self::Sysrq(words)
            | Self::Error(words)
            | Self::OwnError(words)
            | Self::Stall(words)
            | Self::Other(_, words) => Some(words),
        }
    }
}

impl fmt::Display for ScxExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kind: {}", self.kind())?;
        if let Self::Other(kind, _) = self {
            write!(f, " (kernel's number {kind})")?;
        }
        let Some(words) = self.words() else {
            return Ok(());
        };
        write!(f, ", reason: {}", words.reason)?;
        if words.message.is_empty() {
            return Ok(());
        }
        write!(f, ", message: {}", words.message.trim_end())
    }
}

/// Reads what the scheduler wrote when it left; none while it runs.
pub(super) fn read(farewell: &farewell) -> Option<ScxExit> {
    let words = || Words {
        reason: text(&farewell.reason),
        message: text(&farewell.message),
    };
    let exit = match farewell.why {
        leave::LEAVE_NOT => return None,
        leave::LEAVE_DONE => ScxExit::Done,
        _ if farewell.restart != 0 => ScxExit::Restart(words()),
        leave::LEAVE_UNREG => ScxExit::Unregistered,
        leave::LEAVE_UNREG_BPF | leave::LEAVE_UNREG_KERN => ScxExit::Removed(words()),
        leave::LEAVE_SYSRQ => ScxExit::Sysrq(words()),
        leave::LEAVE_ERROR => ScxExit::Error(words()),
        leave::LEAVE_ERROR_BPF => ScxExit::OwnError(words()),
        leave::LEAVE_STALL => ScxExit::Stall(words()),
        _ => ScxExit::Other(farewell.kind, words()),
    };
    Some(exit)
}

/// The text of a C string in a field of fixed size.
fn text(field: &[i8]) -> String {
    let bytes: Vec<u8> = field
        .iter()
        .map(|&c| c.cast_unsigned())
        .take_while(|&c| c != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
