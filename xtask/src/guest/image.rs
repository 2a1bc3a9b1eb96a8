// SPDX-License-Identifier: GPL-2.0-only
//! The root file system of a guest: an initramfs with busybox, the programs
//! given and the libraries they load. Where systemd is to run it holds what goes
//! into the root of a disk before that is started from there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cpio::newc;

use crate::command;
use crate::userland::Root;

const INIT: &str = include_str!("init.sh");
const RUN: &str = include_str!("run.sh");
const INIT_SYSTEMD: &str = include_str!("init-systemd.sh");
const UNIT: &str = include_str!("guest.service");

/// The folder whose content goes into the root of the disk.
const PAYLOAD: &str = "payload/";

/// Units that a guest does without: the console is the kernel's, there is no device that waits for
/// udev's rules, and Debian's daily work would write files and take CPUs in the middle of a test.
const MASKED: &[&str] = &[
    "serial-getty@ttyS0.service",
    "systemd-udev-trigger.service",
    "timers.target",
];

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
redis:x:110:110:redis:/var/lib/redis:/bin/sh
fapolicyd:x:111:111:fapolicyd:/run/fapolicyd:/bin/sh
user:x:1000:1000:user:/home/user:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/sh
";

const GROUP: &str = "\
root:x:0:
adm:x:4:
redis:x:110:
fapolicyd:x:111:
coregate:x:112:
user:x:1000:
nogroup:x:65534:
";

/// What is put into the guest, by path. Of two things at one path the first
/// stays, so that a library set that was put in first is not mixed with another.
pub(crate) struct Image {
    entries: BTreeMap<String, Entry>,
    /// The root that is started from, if it is not this.
    disk: Option<PathBuf>,
}

enum Entry {
    Dir(u32),
    Link(String),
    Copy(PathBuf, u32),
    Text(String, u32),
}

impl Image {
    /// A root with `busybox` that runs the shell script `script`.
    pub(crate) fn new(busybox: &Path, script: &str) -> Self {
        let mut image = Self::bare(busybox, INIT);
        for (path, mode) in [
            ("tmp", 0o1777),
            ("run", 0o755),
            ("home/user", 0o755),
            ("var/log", 0o755),
            ("var/lib/redis", 0o777),
        ] {
            image.add(path, Entry::Dir(mode));
        }
        for (path, target) in [("var/run", "/run"), ("etc/mtab", "/proc/mounts")] {
            image.link(path, target);
        }
        image.text("command", script, 0o755);
        image.text("run-command", RUN, 0o755);
        image.text("etc/passwd", PASSWD, 0o644);
        image.text("etc/group", GROUP, 0o644);
        image.text("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", 0o644);
        image
    }

    /// The root on `disk` with Debian's systemd, which runs the shell script `script`. What is put
    /// into the image is there before systemd starts.
    pub(crate) fn systemd(busybox: &Path, disk: &Path, script: &str) -> Self {
        let mut image = Self::bare(busybox, INIT_SYSTEMD);
        image.disk = Some(disk.to_owned());
        image.text("command", script, 0o755);
        image.text("run-command", RUN, 0o755);
        image.text("etc/hostname", "guest\n", 0o644);
        // Without one systemd would take each boot for the first.
        image.text(
            "etc/machine-id",
            "c04e9a7ec04e9a7ec04e9a7ec04e9a7e\n",
            0o444,
        );
        let units = "etc/systemd/system";
        image.text(&format!("{units}/guest.service"), UNIT, 0o644);
        image.link(
            &format!("{units}/multi-user.target.wants/guest.service"),
            "../guest.service",
        );
        for unit in MASKED {
            image.link(&format!("{units}/{unit}"), "/dev/null");
        }
        image
    }

    /// What runs `init`.
    fn bare(busybox: &Path, init: &str) -> Self {
        let mut image = Self {
            entries: BTreeMap::new(),
            disk: None,
        };
        for (path, mode) in [
            ("proc", 0o555),
            ("sys", 0o555),
            ("dev", 0o755),
            ("root", 0o700),
            ("usr/bin", 0o755),
            ("usr/sbin", 0o755),
            ("usr/lib", 0o755),
            ("usr/lib64", 0o755),
        ] {
            image.add(path, Entry::Dir(mode));
        }
        for (path, target) in [
            ("bin", "usr/bin"),
            ("sbin", "usr/sbin"),
            ("lib", "usr/lib"),
            ("lib64", "usr/lib64"),
        ] {
            // Not by what puts a path below /usr.
            let link = Entry::Link(target.to_owned());
            image.entries.insert(path.to_owned(), link);
        }
        image.text("init", init, 0o755);
        image.file("bin/busybox", busybox, 0o755);
        image
    }

    /// The disk that the guest starts from in the end, if it does not stay in the image.
    pub(crate) fn disk(&self) -> Option<&Path> {
        self.disk.as_deref()
    }

    /// Puts a link to `target` at `path`.
    fn link(&mut self, path: &str, target: &str) {
        self.add(path, Entry::Link(target.to_owned()));
    }

    /// Puts all files below the folder `source` of this machine below `path`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn folder(&mut self, path: &str, source: &Path) -> Result<()> {
        for entry in fs::read_dir(source)
            .with_context(|| format!("cannot read the folder {}", source.display()))?
        {
            let entry = entry?;
            let place = format!("{path}/{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.folder(&place, &entry.path())?;
            } else {
                let mode = entry.metadata()?.permissions().mode() & 0o7777;
                self.file(&place, &entry.path(), mode);
            }
        }
        Ok(())
    }

    /// Puts `text` at `path`.
    pub(crate) fn text(&mut self, path: &str, text: &str, mode: u32) {
        self.add(path, Entry::Text(text.to_owned(), mode));
    }

    /// Puts the file `source` at `path`.
    pub(crate) fn file(&mut self, path: &str, source: &Path, mode: u32) {
        self.add(path, Entry::Copy(source.to_owned(), mode));
    }

    /// Puts the program `source` of this machine at `path`, with its libraries; a disk has its own.
    ///
    /// # Errors
    /// When its libraries cannot be found.
    pub(crate) fn program(&mut self, path: &str, source: &Path) -> Result<()> {
        self.file(path, source, 0o755);
        if self.disk.is_none() {
            self.libraries(&ldd(source)?);
        }
        Ok(())
    }

    /// Puts `program` of `root` at its own path, as the link it may be, with the
    /// libraries of that root.
    ///
    /// # Errors
    /// When its libraries cannot be found.
    pub(crate) fn program_of(&mut self, root: &Root, program: &str) -> Result<()> {
        let listed = root.list(program)?;
        let mut path = PathBuf::from(program);
        while let Ok(target) = fs::read_link(root.path(&path)) {
            self.add(
                &path.display().to_string(),
                Entry::Link(target.display().to_string()),
            );
            path.set_file_name(target);
        }
        self.file(&path.display().to_string(), &root.path(&path), 0o755);
        self.libraries(&listed);
        Ok(())
    }

    /// Writes the initramfs to `path`.
    ///
    /// # Errors
    /// When a file cannot be read or the image cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut out = BufWriter::new(file);
        for (number, (name, entry)) in (1..).zip(&self.entries) {
            append(&mut out, (number, name), entry)
                .with_context(|| format!("cannot put /{name} into the guest"))?;
        }
        newc::trailer(&mut out)
            .map(drop)
            .and_then(|_| out.flush())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Adds the libraries that `listed` names in the format of `ldd`.
    fn libraries(&mut self, listed: &str) {
        for (name, source) in listed.lines().filter_map(library) {
            self.file(&name, &source, 0o755);
        }
    }

    fn add(&mut self, path: &str, entry: Entry) {
        let path = in_usr(path.trim_start_matches('/'));
        let path = match self.disk {
            Some(_) => format!("{PAYLOAD}{path}"),
            None => path,
        };
        let mut parent = Path::new(&path).parent();
        while let Some(dir) = parent.filter(|dir| *dir != Path::new("")) {
            let dir_name = dir.display().to_string();
            self.entries.entry(dir_name).or_insert(Entry::Dir(0o755));
            parent = dir.parent();
        }
        self.entries.entry(path).or_insert(entry);
    }
}

/// The path with `bin`, `sbin` and `lib*` moved below `usr`, where those names
/// point to.
fn in_usr(path: &str) -> String {
    let merged = ["bin/", "sbin/", "lib/", "lib64/"];
    if merged.iter().any(|head| path.starts_with(head)) {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// Path in the guest and file of one line of `ldd`; none for the vDSO.
fn library(line: &str) -> Option<(String, PathBuf)> {
    let line = line.rsplit_once(" (0x").map_or(line, |(head, _)| head);
    let (name, file) = match line.split_once(" => ") {
        Some((name, file)) => (name.trim(), file.trim()),
        None => (line.trim(), line.trim()),
    };
    if !file.starts_with('/') {
        return None;
    }
    // A bare name is looked for in the loader's own folders, so it may be put
    // into any of them.
    let place = if name.starts_with('/') {
        name.to_owned()
    } else {
        format!("usr/lib/x86_64-linux-gnu/{name}")
    };
    Some((place, PathBuf::from(file)))
}

/// The lines of `ldd` for a program of this machine; none if it is static.
fn ldd(program: &Path) -> Result<String> {
    let listed = command::output(Command::new("ldd").arg(program).env("LC_ALL", "C"));
    match listed {
        Err(why) if why.to_string().contains("not a dynamic executable") => Ok(String::new()),
        listed => listed,
    }
}

fn append(out: &mut impl Write, (number, name): (u32, &str), entry: &Entry) -> Result<()> {
    const DIR: u32 = 0o040_000;
    const LINK: u32 = 0o120_000;
    const FILE: u32 = 0o100_000;
    let (mode, mut data): (u32, Box<dyn io::Read>) = match entry {
        Entry::Dir(mode) => (DIR | mode, Box::new(io::empty())),
        Entry::Link(target) => (LINK | 0o777, Box::new(target.as_bytes())),
        Entry::Text(text, mode) => (FILE | mode, Box::new(text.as_bytes())),
        Entry::Copy(source, mode) => {
            let file =
                File::open(source).with_context(|| format!("cannot open {}", source.display()))?;
            (FILE | mode, Box::new(file))
        }
    };
    let size = match entry {
        Entry::Dir(_) => 0,
        Entry::Link(target) => target.len() as u64,
        Entry::Text(text, _) => text.len() as u64,
        Entry::Copy(source, _) => fs::metadata(source)?.len(),
    };
    let size = u32::try_from(size).context("it is larger than 4 GiB")?;
    let mut writer = newc::Builder::new(name)
        .ino(number)
        .mode(mode)
        .write(out, size);
    io::copy(&mut data, &mut writer)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines_are_read() {
        let of = |line| library(line).map(|(name, file)| (name, file.display().to_string()));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(of("\tlinux-vdso.so.1 (0x00007ffd)"), None);
        assert_eq!(
            of("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)"),
            pair(
                "usr/lib/x86_64-linux-gnu/libc.so.6",
                "/lib/x86_64-linux-gnu/libc.so.6"
            )
        );
        assert_eq!(
            of("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)"),
            pair("/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2")
        );
        assert_eq!(
            of("\t/lib64/ld-linux-x86-64.so.2 => /r/ld.so (0x00007f)"),
            pair("/lib64/ld-linux-x86-64.so.2", "/r/ld.so")
        );
    }

    #[test]
    fn old_folders_lie_below_usr() {
        assert_eq!(in_usr("bin/coregate"), "usr/bin/coregate");
        assert_eq!(in_usr("lib64/ld.so"), "usr/lib64/ld.so");
        assert_eq!(in_usr("etc/passwd"), "etc/passwd");
    }
}
