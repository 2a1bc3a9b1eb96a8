// SPDX-License-Identifier: GPL-2.0-only
//! Policy files: read with care, judged against this machine. `check` and the
//! daemon both come through here, so what one accepts the other does.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User};

use crate::policy::{Errors, Host, HostNode, Policy, parse};
use crate::topology::{self, Topology};

mod read;
mod warnings;

pub use read::{FOLDERS, Folders, MAX_SIZE, is_drop_in, read};
pub use warnings::{Warning, warnings};

/// Why there is no policy from a file or a folder.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be opened or read.
    #[error("cannot read the policy {}: {cause}{}", path.display(), remedy(cause))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
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
    #[error("{}: {} in the policy\n{errors}", path.display(), counted(errors.list().len(), "error"))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, and where.
        errors: Errors,
    },
}

/// What to do about a policy that cannot be read.
fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::NotFound => "; name one that is there, or let 'coregate suggest' write one",
        ErrorKind::PermissionDenied => "; try with sudo",
        _ => "",
    }
}

/// "1 error", "2 errors".
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Reads and validates the policy in `path`, see [`read`].
///
/// # Errors
///
/// As of [`read`], or it is not a valid policy.
pub fn load(path: &Path, host: &dyn Host) -> Result<Policy, LoadError> {
    parse(&read(path)?, host).map_err(|errors| LoadError::Invalid {
        path: path.into(),
        errors,
    })
}

/// The numbers of names that have been looked up; `None`: there is no such name.
type Ids = RefCell<HashMap<String, Option<u32>>>;

/// The machine that this process runs on, as it is now: for one load, since
/// what has been looked up once is not looked up again.
#[derive(Debug)]
pub struct ThisHost {
    nodes: Result<Vec<HostNode>, topology::Error>,
    uids: Ids,
    gids: Ids,
    /// Where folders lead, for the many paths that share one; `None`: nowhere.
    folders: RefCell<HashMap<PathBuf, Option<PathBuf>>>,
}

impl ThisHost {
    /// Reads this machine's topology.
    pub fn new() -> Self {
        let topology = Topology::read(Path::new(topology::SYSFS));
        Self {
            nodes: topology.map(|topology| topology.nodes.iter().map(host_node).collect()),
            uids: Ids::default(),
            gids: Ids::default(),
            folders: RefCell::default(),
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
        look_up(&self.uids, name, |name| {
            Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
        })
    }

    /// Likewise.
    fn gid(&self, name: &str) -> Result<Option<u32>, String> {
        look_up(&self.gids, name, |name| {
            Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
        })
    }

    fn resolve(&self, path: &str) -> Option<String> {
        let resolved = self.resolve_in_folder(Path::new(path))?;
        resolved.into_os_string().into_string().ok()
    }

    fn nodes(&self) -> Option<&[HostNode]> {
        self.nodes.as_deref().ok()
    }
}

impl ThisHost {
    /// As [`fs::canonicalize`], for a path without `.` and `..`; but a folder that many are in is
    /// resolved once.
    fn resolve_in_folder(&self, path: &Path) -> Option<PathBuf> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return fs::canonicalize(path).ok();
        };
        let known = self.folders.borrow().get(folder).cloned();
        let folder_leads_to = known.unwrap_or_else(|| {
            let leads_to = self.resolve_in_folder(folder);
            let mut folders = self.folders.borrow_mut();
            folders.insert(folder.into(), leads_to.clone());
            leads_to
        });
        let path = folder_leads_to?.join(name);
        if fs::symlink_metadata(&path).ok()?.is_symlink() {
            return fs::canonicalize(path).ok();
        }
        Some(path)
    }
}

fn look_up(
    known: &Ids,
    name: &str,
    ask: impl Fn(&str) -> nix::Result<Option<u32>>,
) -> Result<Option<u32>, String> {
    if name.contains('\0') {
        return Ok(None);
    }
    if let Some(id) = known.borrow().get(name) {
        return Ok(*id);
    }
    let id = ask(name).map_err(|errno| errno.desc().to_string())?;
    known.borrow_mut().insert(name.into(), id);
    Ok(id)
}

fn host_node(node: &topology::Node) -> HostNode {
    HostNode {
        number: node.id,
        cores: u32::try_from(node.cores.len()).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests;
