// SPDX-License-Identifier: GPL-2.0-only
//! The disk of guests with systemd: a Debian release as it is installed, kept in the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::{Apt, KEYRING};
use crate::cache::{self, Cache};
use crate::command;

/// The release, and the kernel series that it comes with.
const SUITE: &str = "trixie";
pub(crate) const SERIES: &str = "6.12";

/// What is installed besides the packages that every system has.
const PACKAGES: &[&str] = &[
    "dbus",
    "iproute2",
    "kmod",
    "procps",
    "rsyslog",
    "systemd",
    "systemd-sysv",
    "udev",
];

/// Room on the disk; it takes none on this machine that is not used.
const BYTES: u64 = 1 << 30;

/// The disk, made anew when other packages are wanted.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn disk(cache: &Cache) -> Result<PathBuf> {
    let dir = cache.dir(&format!("roots/{SUITE}"))?;
    let (disk, list) = (dir.join("disk"), dir.join("packages"));
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&list).is_ok_and(|have| have == wanted) && disk.exists() {
        return Ok(disk);
    }
    eprintln!("installing Debian {SUITE} on a disk for guests, once");
    let part = dir.join("part");
    install(&Apt::open(cache)?, &part)?;
    fs::rename(&part, &disk).with_context(|| format!("cannot write {}", disk.display()))?;
    cache::write(&list, &wanted)?;
    Ok(disk)
}

fn install(apt: &Apt, part: &Path) -> Result<()> {
    bootstrap(apt, PACKAGES, &["--format=ext2".into()], part)?;
    let file = File::options().append(true).open(part);
    file.and_then(|file| file.set_len(BYTES))
        .with_context(|| format!("cannot enlarge {}", part.display()))?;
    // It resizes only what was checked since it was last written.
    command::output(Command::new("/sbin/e2fsck").args(["-f", "-p"]).arg(part))?;
    command::output(Command::new("/sbin/resize2fs").arg(part))?;
    Ok(())
}

/// Makes a root with systemd and nothing of this machine in it, lets `hooks` change it or look at it,
/// and throws it away. Each is a script, whose `$1` is the root, or a command of mmdebstrap.
///
/// # Errors
/// When it cannot be made, or a hook fails.
pub(crate) fn in_root(hooks: &[String]) -> Result<()> {
    let hooks = hooks.iter().map(|hook| format!("--customize-hook={hook}"));
    // What the kernel shows there is that of this machine: a gate that stands on it, for one.
    let mut options = vec!["--format=null".into(), "--skip=chroot/mount/sys".into()];
    options.extend(hooks);
    let nowhere = Path::new("/dev/null");
    let apt = Apt::open(&Cache::open()?)?;
    bootstrap(&apt, &["systemd"], &options, nowhere)
}

fn bootstrap(apt: &Apt, packages: &[&str], options: &[String], to: &Path) -> Result<()> {
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap
        .args(["--quiet", "--variant=minbase"])
        .arg(format!("--include={}", packages.join(",")))
        .arg(format!("--keyring={KEYRING}"))
        .args(apt.network()?.iter().map(|line| format!("--aptopt={line}")))
        .args(options)
        .args([Path::new(SUITE), to])
        .arg(apt.mirror()?);
    command::output(&mut bootstrap).map(drop)
}
