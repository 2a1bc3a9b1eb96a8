// SPDX-License-Identifier: GPL-2.0-only
//! Which capabilities (capabilities(7)) a program of coregate keeps once it has begun its work, and
//! what for. docs/operations.md has the same tables.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use nix::sys::prctl::set_no_new_privs;

/// A capability that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub capability: Capability,
    /// What would not work without it.
    pub purpose: &'static str,
}

/// What the daemon keeps once the gate is attached. Maps, programs and links are used by descriptors
/// that it holds, and descriptors need no capability (kernel/bpf/syscall.c); its files are root's, as
/// it is.
pub const DAEMON: &[Kept] = &[Kept {
    capability: Capability::CAP_AUDIT_WRITE,
    purpose: "write audit records; only if the policy that it starts with has `audit = true`",
}];

/// Of these, what is kept with or without audit records.
pub fn of_daemon(audit: bool) -> Vec<Kept> {
    let wanted = |kept: &&Kept| audit || kept.capability != Capability::CAP_AUDIT_WRITE;
    DAEMON.iter().filter(wanted).copied().collect()
}

/// What the companion keeps from its beginning.
pub const COMPANION: &[Kept] = &[
    Kept {
        capability: Capability::CAP_BPF,
        purpose: "load the scheduler, anew whenever CPUs have come or gone",
    },
    Kept {
        capability: Capability::CAP_PERFMON,
        purpose: "the same: the scheduler reads the kernel's own types",
    },
];

/// A capability could not be given up.
#[derive(Debug, thiserror::Error)]
#[error("cannot give up the capabilities that are not needed: {0}")]
pub struct Error(String);

impl From<CapsError> for Error {
    fn from(error: CapsError) -> Self {
        Self(error.to_string())
    }
}

/// Gives up all capabilities but these, for good: for the calling thread, the threads it starts from
/// then on, and the programs it executes. What it never had it does not get.
///
/// The bounding set is of no use to somebody without capabilities who cannot get new ones; it can
/// be emptied only with CAP_SETPCAP, and is left as it is without.
///
/// # Errors
///
/// The kernel refused it; some may be gone then.
pub fn keep(kept: &[Kept]) -> Result<(), Error> {
    set_no_new_privs().map_err(|errno| Error(errno.to_string()))?;
    let wanted: CapsHashSet = kept.iter().map(|kept| kept.capability).collect();
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::runtime::thread_all_supported().difference(&wanted) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    let held = caps::read(None, CapSet::Permitted)?;
    let kept = held.intersection(&wanted).copied().collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    Ok(())
}

#[cfg(test)]
mod tests;
