// SPDX-License-Identifier: GPL-2.0-only
//! Programs of Debian that guests need: unpacked in the cache, of the machine's
//! own suite so that they share a libc with what is built here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::apt::Apt;
use crate::cache::{self, Cache};
use crate::command;
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

const QEMU: Set = Set {
    name: "qemu",
    packages: &["qemu-system-x86"],
    closure: true,
};

const REDIS: Set = Set {
    name: "redis",
    packages: &["redis-server", "redis-tools"],
    closure: true,
};

/// Its programs need no more than libc.
const PROMETHEUS: Set = Set {
    name: "prometheus",
    packages: &["prometheus"],
    closure: false,
};

const RSYSLOG: Set = Set {
    name: "rsyslog",
    packages: &["rsyslog"],
    closure: true,
};

const STRESS: Set = Set {
    name: "stress",
    packages: &["stress-ng"],
    closure: true,
};

const AUDIT: Set = Set {
    name: "audit",
    packages: &["auditd"],
    closure: true,
};

const PEERS: Set = Set {
    name: "peers",
    packages: &["apparmor", "auditd", "fapolicyd"],
    closure: true,
};

/// A busybox that needs no library.
///
/// # Errors
/// When it cannot be fetched.
pub(crate) fn busybox(cache: &Cache) -> Result<PathBuf> {
    Ok(unpacked(cache, &BUSYBOX)?.join("bin/busybox"))
}

/// QEMU and all it needs; see the preferences of [`Apt`] for why it is not the
/// machine's own.
///
/// # Errors
/// When it cannot be fetched.
pub(crate) fn qemu(cache: &Cache) -> Result<Root> {
    unpacked(cache, &QEMU).map(Root)
}

/// Puts Debian's redis-server and redis-cli into `image`, with the libraries
/// of the release that they come from.
///
/// # Errors
/// When they cannot be fetched.
pub(crate) fn add_redis(cache: &Cache, image: &mut Image) -> Result<()> {
    let root = Root(unpacked(cache, &REDIS)?);
    for program in ["usr/bin/redis-server", "usr/bin/redis-cli"] {
        image.program_of(&root, program)?;
    }
    Ok(())
}

/// Debian's prometheus, and with it promtool, which run on this machine.
///
/// # Errors
/// When they cannot be fetched.
pub(crate) fn prometheus(cache: &Cache) -> Result<Root> {
    unpacked(cache, &PROMETHEUS).map(Root)
}

/// The log daemon that Debian had by default, as far as it is needed to listen at /dev/log.
///
/// # Errors
/// When it cannot be fetched.
pub(crate) fn rsyslog(cache: &Cache) -> Result<Root> {
    unpacked(cache, &RSYSLOG).map(Root)
}

/// Puts rsyslogd of `root` into `image`.
///
/// # Errors
/// When its libraries cannot be found.
pub(crate) fn add_rsyslog(root: &Root, image: &mut Image) -> Result<()> {
    for program in [
        "usr/sbin/rsyslogd",
        "usr/lib/x86_64-linux-gnu/rsyslog/imuxsock.so",
        "usr/lib/x86_64-linux-gnu/rsyslog/lmnet.so",
    ] {
        image.program_of(root, program)?;
    }
    Ok(())
}

/// Debian's stress-ng.
///
/// # Errors
/// When it cannot be fetched.
pub(crate) fn stress(cache: &Cache) -> Result<Root> {
    unpacked(cache, &STRESS).map(Root)
}

/// Puts stress-ng of `root` into `image`.
///
/// # Errors
/// When its libraries cannot be found.
pub(crate) fn add_stress(root: &Root, image: &mut Image) -> Result<()> {
    image.program_of(root, "usr/bin/stress-ng")
}

/// Debian's auditd, and what asks it.
///
/// # Errors
/// When it cannot be fetched.
pub(crate) fn audit(cache: &Cache) -> Result<Root> {
    unpacked(cache, &AUDIT).map(Root)
}

/// Puts auditd of `root` into `image`, and what asks it.
///
/// # Errors
/// When its libraries cannot be found.
pub(crate) fn add_audit(root: &Root, image: &mut Image) -> Result<()> {
    const CONF: &str = "etc/audit/auditd.conf";
    for program in ["auditd", "auditctl", "ausearch"] {
        // Where it is depends on how far a release merged /sbin into /usr.
        let path = format!("sbin/{program}");
        let merged = format!("usr/{path}");
        let is_merged = root.path(&merged).exists();
        image.program_of(root, if is_merged { &merged } else { &path })?;
    }
    image.file(CONF, &root.path(CONF), 0o640);
    Ok(())
}

/// What else watches launches, to compare with.
///
/// # Errors
/// When it cannot be fetched.
pub(crate) fn peers(cache: &Cache) -> Result<Root> {
    unpacked(cache, &PEERS).map(Root)
}

/// A root folder whose programs run with its own libraries.
#[derive(Clone, Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// The path of `file` on this machine.
    pub(crate) fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        self.0.join(file)
    }

    /// The start of a command line that runs `program` with the root's loader
    /// and libraries, so that it need not fit this machine's.
    ///
    /// # Errors
    /// When the root holds no loader.
    pub(crate) fn command_line(&self, program: &str) -> Result<Vec<PathBuf>> {
        Ok(vec![
            self.loader()?,
            "--library-path".into(),
            self.libraries().into(),
            self.path(program),
        ])
    }

    /// What the loader says `program` loads, in the format of `ldd`.
    ///
    /// # Errors
    /// When the root holds no loader, or it lacks a library.
    pub(crate) fn list(&self, program: &str) -> Result<String> {
        let mut list = Command::new(self.loader()?);
        list.args(["--library-path", &self.libraries(), "--list"])
            .arg(self.path(program));
        command::output(&mut list)
    }

    fn loader(&self) -> Result<PathBuf> {
        // Which of them depends on how far a release merged /lib64 into /usr.
        ["lib64", "usr/lib64"]
            .iter()
            .map(|dir| self.0.join(dir).join("ld-linux-x86-64.so.2"))
            .find(|path| path.exists())
            .ok_or_else(|| anyhow!("no loader below {}", self.0.display()))
    }

    fn libraries(&self) -> String {
        ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"]
            .map(|dir| self.0.join(dir).display().to_string())
            .join(":")
    }
}

/// The folder of `set`, unpacked anew when the indexes name other versions.
fn unpacked(cache: &Cache, set: &Set) -> Result<PathBuf> {
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
