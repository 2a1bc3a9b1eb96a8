// SPDX-License-Identifier: GPL-2.0-only
//! Programs of Debian that guests run: unpacked in the cache, of the machine's
//! own suite so that they share a libc with what is built here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::apt::Apt;
use crate::cache::{self, Cache};
use crate::guest::Image;

/// Packages unpacked into a folder of their own.
struct Set {
    name: &'static str,
    packages: &'static [&'static str],
    /// With all they depend on, down to libc.
    closure: bool,
}

const BUSYBOX: Set = Set {
    name: "busybox",
    packages: &["busybox-static"],
    closure: false,
};

const REDIS: Set = Set {
    name: "redis",
    packages: &["redis-server", "redis-tools"],
    closure: true,
};

/// A busybox that needs no library.
///
/// # Errors
/// When it cannot be fetched.
pub(crate) fn busybox(cache: &Cache) -> Result<PathBuf> {
    Ok(root(cache, &BUSYBOX)?.join("bin/busybox"))
}

/// Puts Debian's redis-server and redis-cli into `image`, with the libraries
/// of the release that they come from.
///
/// # Errors
/// When they cannot be fetched.
pub(crate) fn add_redis(cache: &Cache, image: &mut Image) -> Result<()> {
    let root = root(cache, &REDIS)?;
    // redis-server is a link to redis-check-rdb, which acts by its name.
    for program in ["usr/bin/redis-server", "usr/bin/redis-cli"] {
        image.program_of(&root, program)?;
    }
    Ok(())
}

/// The folder of `set`, unpacked anew when the indexes name other versions.
fn root(cache: &Cache, set: &Set) -> Result<PathBuf> {
    let apt = Apt::open(cache)?;
    let dir = cache.dir(&format!("roots/{}", set.name))?;
    let (tree, list) = (dir.join("tree"), dir.join("packages"));
    if apt.is_older_than(&list)? {
        return Ok(tree);
    }
    let wanted = apt.closure(set.packages)?.join("\n");
    let have = fs::read_to_string(&list).unwrap_or_default();
    if have != wanted {
        eprintln!("fetching {}", set.packages.join(", "));
        unpack(&apt, set, &tree)?;
    }
    cache::write(&list, &wanted)?;
    Ok(tree)
}

fn unpack(apt: &Apt, set: &Set, tree: &Path) -> Result<()> {
    let part = tree.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    cache::make_dir(&part)?;
    if set.closure {
        apt.unpack_closure(set.packages, &part)?;
    } else {
        for package in set.packages {
            apt.unpack(package, &part)?;
        }
    }
    let _ = fs::remove_dir_all(tree);
    fs::rename(&part, tree).with_context(|| format!("cannot write {}", tree.display()))
}
