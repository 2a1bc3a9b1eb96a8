// SPDX-License-Identifier: GPL-2.0-only
//! What stays in the kernel when the daemon ends: links, by which the hooks stay attached, the maps
//! of claims, and what the next daemon goes on with. It is pinned in a BPF file system
//! (kernel/bpf/inode.c), for root alone.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use libbpf_rs::{Link, MapCore, MapHandle, MapMut, OpenMapMut};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where the gate is pinned.
pub const ROOT: &str = "/sys/fs/bpf/coregate";

/// The links of the attached hooks, by their programs' names.
const LINKS: &str = "links";
/// A name there has no dots (bpf_lookup(), kernel/bpf/inode.c).
const NEW_LINKS: &str = "new-links";

/// The maps of claims. The number changes with the form of what they hold: a gate that knows
/// another form begins without claims.
pub(super) const CLAIMS: &str = "claims-6";

/// Likewise events that are not read, counts of failures, and what root said of the mode.
pub(super) const KEPT: &str = "kept-3";
/// The map there that is a section.
pub(super) const SECTION: &str = "section";

/// Why the gate could not be pinned or taken down.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no BPF file system.
    #[error(
        "no BPF file system is mounted at {PARENT}, where the gate is to stay when the daemon \
         ends; mount it with 'mount -t bpf bpf {PARENT}', or start the daemon with --no-persist"
    )]
    NoFileSystem,
    /// A file or folder there could not be made, moved or removed.
    #[error("cannot {what} {}: {cause}", path.display())]
    Path {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The kernel refused to pin a map or a link, or to open one.
    #[error("cannot pin the gate in {ROOT}: {0}")]
    Kernel(libbpf_rs::Error),
}

impl From<libbpf_rs::Error> for Error {
    fn from(cause: libbpf_rs::Error) -> Self {
        Self::Kernel(cause)
    }
}

/// Where systemd mounts a BPF file system.
pub(crate) const PARENT: &str = "/sys/fs/bpf";

fn at(folder: &str) -> PathBuf {
    Path::new(ROOT).join(folder)
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Path {
        what,
        path: path.to_owned(),
        cause,
    }
}

/// Whether a gate is pinned, with or without a daemon.
pub fn stands() -> bool {
    at(LINKS).exists()
}

/// Lets maps that are not loaded yet be those in this folder of the gate that stands, if it has all of
/// them in the same size.
pub(super) fn reuse(folder: &str, maps: &mut [(&str, &mut OpenMapMut<'_>)]) -> Result<(), Error> {
    let same = |pinned: &MapHandle, map: &OpenMapMut<'_>| {
        pinned.max_entries() == map.max_entries() && pinned.value_size() == map.value_size()
    };
    reuse_if(same, folder, maps).map(drop)
}

/// Lets maps that are not loaded yet be those in this folder, if each is there and fits; whether that is so.
fn reuse_if(
    fits: impl Fn(&MapHandle, &OpenMapMut<'_>) -> bool,
    folder: &str,
    maps: &mut [(&str, &mut OpenMapMut<'_>)],
) -> Result<bool, Error> {
    let fits = |(name, map): &(&str, &mut OpenMapMut<'_>)| {
        open(folder, name).is_some_and(|pinned| fits(&pinned, map))
    };
    if !maps.iter().all(fits) {
        return Ok(false);
    }
    for (name, map) in maps {
        map.reuse_pinned_map(at(folder).join(name))?;
    }
    Ok(true)
}

/// Lets maps of another object, not loaded yet, be the pinned ones of claims, if they are there: their
/// ids. It may know less of a value than the gate, but not more.
///
/// # Errors
///
/// A map could not be opened, though it is there.
pub(crate) fn share_claims<const N: usize>(
    mut maps: [(&str, &mut OpenMapMut<'_>); N],
) -> Result<Option<[u32; N]>, Error> {
    let names = maps.each_ref().map(|(name, _)| *name);
    let Some(ids) = claims_ids(names) else {
        return Ok(None);
    };
    let holds = |pinned: &MapHandle, map: &OpenMapMut<'_>| pinned.value_size() >= map.value_size();
    Ok(reuse_if(holds, CLAIMS, &mut maps)?.then_some(ids))
}

/// The ids of these of the pinned maps of claims. `None`: one of them is not there.
pub(crate) fn claims_ids<const N: usize>(names: [&str; N]) -> Option<[u32; N]> {
    let mut ids = [0; N];
    for (id, name) in ids.iter_mut().zip(names) {
        *id = open(CLAIMS, name)?.info().ok()?.info.id;
    }
    Some(ids)
}

/// The map of this name in this folder of the gate that stands. `None`: there is none.
pub(super) fn open(folder: &str, name: &str) -> Option<MapHandle> {
    MapHandle::from_pinned_path(at(folder).join(name)).ok()
}

/// Whether a gate can stay: there is a file system for it.
pub(super) fn can_stay() -> Result<(), Error> {
    let magic = statfs(PARENT).map(|fs| fs.filesystem_type());
    if magic == Ok(BPF_FS_MAGIC) {
        Ok(())
    } else {
        Err(Error::NoFileSystem)
    }
}

/// Pins the gate in place of what stands there: it has just been attached, so there is no moment
/// without one.
pub(super) fn pin(
    links: &mut [(String, Link)],
    folders: &mut [(&str, &mut [(&str, &mut MapMut<'_>)])],
) -> Result<(), Error> {
    remove(&at(NEW_LINKS))?;
    make(&at(NEW_LINKS))?;
    for (folder, maps) in folders {
        pin_maps(folder, maps)?;
    }
    for (name, link) in &mut *links {
        link.pin(at(NEW_LINKS).join(name))?;
    }
    // All at once: whenever this process is killed, the hooks of one gate stand in the place.
    let turn = if stands() {
        RenameFlags::RENAME_EXCHANGE
    } else {
        RenameFlags::empty()
    };
    let (from, to) = (at(NEW_LINKS), at(LINKS));
    renameat2(AT_FDCWD, &from, AT_FDCWD, &to, turn)
        .map_err(io::Error::from)
        .map_err(failed("move", &from))?;
    remove(&at(NEW_LINKS))
}

/// Pins maps that are not those that are pinned already.
fn pin_maps(folder: &str, maps: &mut [(&str, &mut MapMut<'_>)]) -> Result<(), Error> {
    let id = |map: &dyn MapCore| map.info().map(|info| info.info.id).ok();
    let is_pinned = |(name, map): &(&str, &mut MapMut<'_>)| {
        open(folder, name).is_some_and(|pinned| id(&pinned) == id(*map))
    };
    // Those are not touched: this process may be killed at any moment.
    if maps.iter().all(is_pinned) {
        return Ok(());
    }
    remove(&at(folder))?;
    make(&at(folder))?;
    for (name, map) in maps {
        map.pin(at(folder).join(name))?;
    }
    Ok(())
}

fn make(folder: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.map_err(failed("make", folder))
}

/// Takes down the gate that is pinned: the names of the hooks that it was attached to. Its claims
/// are gone then, too.
///
/// # Errors
///
/// A file could not be removed; what was before it is.
pub fn detach() -> Result<Vec<String>, Error> {
    let names = names(&at(LINKS))?;
    remove(Path::new(ROOT))?;
    Ok(names)
}

/// The names in a folder, in order; none if there is no such folder.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into());
    let names: io::Result<Vec<String>> = entries.and_then(|entries| entries.map(name).collect());
    let mut names = names.map_err(failed("read", folder))?;
    names.sort();
    Ok(names)
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}
