// SPDX-License-Identifier: GPL-2.0-only
//! From a path to the texts of a policy: which files they stand in, in which order, and whether
//! these can be trusted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{self, Path, PathBuf};

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::sys::stat::makedev;
use nix::unistd::Uid;

use super::LoadError;
use crate::policy::Source;

/// The most bytes of a policy, in all its files: [`crate::policy::MAX_RULES`] rules of the
/// greatest length fit more than twice.
pub const MAX_SIZE: u64 = 16 << 20;

/// The folders in which a machine has its policy.
#[derive(Clone, Copy, Debug)]
pub struct Folders<'a> {
    /// The administrator's: a policy file, and a folder of drop-ins.
    pub etc: &'a str,
    /// The drop-ins of packages. They belong to the policy in `etc` only.
    pub vendor: &'a str,
}

/// Where every machine has them.
pub const FOLDERS: Folders<'static> = Folders {
    etc: "/etc/coregate",
    vendor: "/usr/lib/coregate/policy.d",
};

/// The policy file in a folder.
const POLICY: &str = "policy.toml";

/// The folder of drop-ins beside it.
const DROP_INS: &str = "policy.d";

/// The bits of a file's mode that let others than its owner write it.
const OTHERS_WRITE: u32 = 0o022;

/// Reads the policy in `path`: a file, or a folder with `policy.toml` and drop-ins
/// `policy.d/*.toml`, in name order. To the folder /etc/coregate belong the drop-ins in
/// /usr/lib/coregate/policy.d, but for those whose name is in /etc/coregate/policy.d too.
///
/// A file in a folder `policy.d` is read as the drop-in that it is: after a source without a name,
/// which is empty.
///
/// # Errors
///
/// A file or folder cannot be read, may be written by others than its owner, or belongs to
/// somebody who is neither root nor the caller.
pub fn read(path: &Path) -> Result<Vec<Source>, LoadError> {
    FOLDERS.read(path)
}

/// Whether this is a file in a folder `policy.d`.
pub fn is_drop_in(path: &Path) -> bool {
    let in_drop_ins = |path: PathBuf| {
        let folder = path.parent().and_then(Path::file_name);
        folder.is_some_and(|folder| folder == DROP_INS)
    };
    !path.is_dir() && path::absolute(path).is_ok_and(in_drop_ins)
}

impl Folders<'_> {
    fn read(&self, path: &Path) -> Result<Vec<Source>, LoadError> {
        let mut sources = Sources::default();
        if path.is_dir() {
            trust_folder(path)?;
            sources.policy(&path.join(POLICY))?;
            for drop_in in self.drop_ins(path)? {
                sources.drop_in(&drop_in).map_err(listed)?;
            }
        } else if is_drop_in(path) {
            sources.read.push(Source::default());
            sources.drop_in(path)?;
        } else {
            sources.policy(path)?;
        }
        Ok(sources.read)
    }

    /// The drop-ins of the policy in a folder, in name order.
    fn drop_ins(&self, folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
        let is_etc = path::absolute(folder).is_ok_and(|folder| folder == Path::new(self.etc));
        let vendor = is_etc.then(|| self.vendor.into());
        let mut by_name = BTreeMap::new();
        for folder in vendor.into_iter().chain([folder.join(DROP_INS)]) {
            for name in names(&folder)? {
                let path = folder.join(&name);
                by_name.insert(name, path);
            }
        }
        Ok(by_name.into_values().collect())
    }
}

/// The names of the drop-ins in a folder; none, if there is no such folder.
fn names(folder: &Path) -> Result<Vec<OsString>, LoadError> {
    // Not of what a link leads to: one that leads nowhere is a mistake.
    if fs::symlink_metadata(folder).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(Vec::new());
    }
    trust_folder(folder)?;
    let failed = failed(folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let name = entry.map_err(&failed)?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.ends_with(b".toml") && !bytes.starts_with(b".") {
            names.push(name);
        }
    }
    Ok(names)
}

/// What was listed in a folder should be there.
fn listed(error: LoadError) -> LoadError {
    match error {
        LoadError::Read { path, cause } if cause.kind() == ErrorKind::NotFound => unfit(
            &path,
            "was in its folder, and cannot be found".into(),
            "correct it if it is a link that leads nowhere, or else try again".into(),
        ),
        other => other,
    }
}

/// What has been read so far.
#[derive(Default)]
struct Sources {
    read: Vec<Source>,
    bytes: u64,
}

impl Sources {
    fn policy(&mut self, path: &Path) -> Result<(), LoadError> {
        let (file, metadata) = open(path)?;
        self.add(path, file, &metadata)
    }

    /// One that is linked to /dev/null is switched off.
    fn drop_in(&mut self, path: &Path) -> Result<(), LoadError> {
        let (file, metadata) = open(path)?;
        if metadata.file_type().is_char_device() && metadata.rdev() == makedev(1, 3) {
            return Ok(());
        }
        self.add(path, file, &metadata)
    }

    fn add(&mut self, path: &Path, file: File, metadata: &Metadata) -> Result<(), LoadError> {
        if !metadata.is_file() {
            let remedy = "put a TOML file in its place".into();
            return Err(unfit(path, "is not a regular file".into(), remedy));
        }
        trust(path, metadata, Uid::effective())?;
        let left = MAX_SIZE - self.bytes;
        let bytes = bytes(file, left).map_err(failed(path))?;
        let size = bytes.len() as u64;
        if size > left {
            let together = if self.bytes > 0 {
                ", with the files before it,"
            } else {
                ""
            };
            return Err(unfit(
                path,
                format!("is{together} larger than {} MiB", MAX_SIZE >> 20),
                "check that it is the right file".into(),
            ));
        }
        self.bytes += size;
        let source = Source::new(path.to_string_lossy(), text(path, bytes)?);
        self.read.push(source);
        Ok(())
    }
}

/// Everything is asked of the one open file, so nobody can put another in its place between the
/// check and the read.
fn open(path: &Path) -> Result<(File, Metadata), LoadError> {
    // A FIFO must not hold us up.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK | O_NOCTTY)
        .open(path)
        .map_err(failed(path))?;
    let metadata = file.metadata().map_err(failed(path))?;
    Ok((file, metadata))
}

/// At most one byte more than `most`, so that a file which grows while it is read is noticed too.
fn bytes(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, LoadError> {
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

/// Whoever can write into a folder can add rules, and take some away.
fn trust_folder(folder: &Path) -> Result<(), LoadError> {
    let metadata = fs::metadata(folder).map_err(failed(folder))?;
    if !metadata.is_dir() {
        let remedy = "put a folder of drop-ins in its place".into();
        return Err(unfit(folder, "is not a folder".into(), remedy));
    }
    trust(folder, &metadata, Uid::effective())
}

fn trust(path: &Path, metadata: &Metadata, caller: Uid) -> Result<(), LoadError> {
    let name = path.display();
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

fn failed(path: &Path) -> impl Fn(io::Error) -> LoadError {
    move |cause| LoadError::Read {
        path: path.into(),
        cause,
    }
}

fn unfit(path: &Path, what: String, remedy: String) -> LoadError {
    LoadError::Unfit {
        path: path.into(),
        what,
        remedy,
    }
}

#[cfg(test)]
mod tests;
