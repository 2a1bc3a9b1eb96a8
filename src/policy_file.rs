// SPDX-License-Identifier: GPL-2.0-only
//! Policy files: read with care, judged against this machine. `check` and the
//! daemon both come through here, so what one accepts the other does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::unistd::{Uid, User};

use crate::policy::{Errors, Host, HostNode, Policy, parse};
use crate::topology::{self, Topology};

mod warnings;

pub use warnings::{Warning, warnings};

/// The largest policy file, in bytes: [`crate::policy::MAX_RULES`] rules of the
/// greatest length fit more than twice.
pub const MAX_SIZE: u64 = 16 << 20;

/// The bits of a file's mode that let others than its owner write it.
const OTHERS_WRITE: u32 = 0o022;

/// Why there is no policy from a file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be opened or read.
    #[error("cannot read the policy {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a file that may be trusted, or not one that can be a policy.
    #[error("the policy {} {what}; {remedy}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// It is not a valid policy.
    #[error("{}: {} in the policy\n{errors}", path.display(), count(errors.list().len()))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, and where.
        errors: Errors,
    },
}

/// "1 error", "2 errors".
fn count(errors: usize) -> String {
    format!("{errors} error{}", if errors == 1 { "" } else { "s" })
}

/// Reads and validates the policy in `path`.
///
/// # Errors
///
/// The file cannot be read, may be written by others than its owner, belongs
/// to somebody who is neither root nor the caller, or is not a valid policy.
pub fn load(path: &Path, host: &dyn Host) -> Result<Policy, LoadError> {
    let text = read(path)?;
    parse(&path.to_string_lossy(), &text, host).map_err(|errors| LoadError::Invalid {
        path: path.into(),
        errors,
    })
}

fn read(path: &Path) -> Result<String, LoadError> {
    let failed = |source| LoadError::Read {
        path: path.into(),
        source,
    };
    // Everything is asked of the one open file, so nobody can put another in
    // its place between the check and the read. A FIFO must not hold us up.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK | O_NOCTTY)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    trust(path, &metadata, Uid::effective())?;
    let bytes = bytes(file).map_err(failed)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(unfit(
            path,
            format!("is larger than {} MiB", MAX_SIZE >> 20),
            "check that it is the right file".into(),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        unfit(
            path,
            format!("is not UTF-8 in line {line}"),
            "save it as UTF-8 text".into(),
        )
    })
}

/// At most one byte more than [`MAX_SIZE`], so that a file which grows while
/// it is read is noticed too.
fn bytes(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn trust(path: &Path, metadata: &Metadata, caller: Uid) -> Result<(), LoadError> {
    let name = path.display();
    if !metadata.is_file() {
        let remedy = "name a TOML file".into();
        return Err(unfit(path, "is not a regular file".into(), remedy));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        let what = format!("can be written by others than its owner (mode {mode:04o})");
        return Err(unfit(path, what, format!("run: chmod go-w {name}")));
    }
    let owner = Uid::from_raw(metadata.uid());
    if !owner.is_root() && owner != caller {
        let what = format!("belongs to user {owner}, who is neither root nor you");
        return Err(unfit(path, what, format!("run: chown root {name}")));
    }
    Ok(())
}

fn unfit(path: &Path, what: String, remedy: String) -> LoadError {
    LoadError::Unfit {
        path: path.into(),
        what,
        remedy,
    }
}

/// The machine that this process runs on, as it is now: for one load, since
/// what has been looked up once is not looked up again.
#[derive(Debug)]
pub struct ThisHost {
    nodes: Result<Vec<HostNode>, topology::Error>,
    uids: RefCell<HashMap<String, Option<u32>>>,
}

impl ThisHost {
    /// Reads this machine's topology.
    pub fn new() -> Self {
        let topology = Topology::read(Path::new(topology::SYSFS));
        Self {
            nodes: topology.map(|topology| topology.nodes.iter().map(host_node).collect()),
            uids: RefCell::default(),
        }
    }

    /// What could not be held against this machine, if its topology could not
    /// be read.
    pub fn warning(&self) -> Option<Warning> {
        let error = self.nodes.as_ref().err()?;
        Some(Warning {
            origin: None,
            rule: None,
            message: format!("`cores` and `scope` were not held against this machine: {error}"),
            hint: "compare them with lscpu(1) by hand".into(),
        })
    }
}

impl Default for ThisHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for ThisHost {
    /// Asks the name service switch, `nsswitch.conf(5)`.
    fn uid(&self, name: &str) -> Result<Option<u32>, String> {
        if name.contains('\0') {
            return Ok(None);
        }
        if let Some(uid) = self.uids.borrow().get(name) {
            return Ok(*uid);
        }
        let user = User::from_name(name).map_err(|errno| errno.desc().to_string())?;
        let uid = user.map(|user| user.uid.as_raw());
        self.uids.borrow_mut().insert(name.into(), uid);
        Ok(uid)
    }

    fn resolve(&self, exe: &str) -> Option<String> {
        fs::canonicalize(exe)
            .ok()?
            .into_os_string()
            .into_string()
            .ok()
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        self.nodes.as_deref().ok()
    }
}

fn host_node(node: &topology::Node) -> HostNode {
    HostNode {
        number: node.id,
        cores: u32::try_from(node.cores.len()).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests;
