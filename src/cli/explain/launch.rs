// SPDX-License-Identifier: GPL-2.0-only
//! The launch to explain: from an event, from a running process, from options.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::Args;
use crate::cli::replay;
use crate::daemon::{self, PATIENCE, Question};
use crate::policy::{Hook, Host, Launch};
use crate::report::Event;

/// What is known of a launch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Known {
    hook: Option<Hook>,
    exe: Option<Vec<u8>>,
    cgroup: Option<Vec<u8>>,
    units: Option<Vec<Vec<u8>>>,
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Option<Vec<u32>>,
    comm: Option<Vec<u8>>,
    argv: Option<Vec<Vec<u8>>>,
    parent: Option<Vec<u8>>,
    container: Option<bool>,
}

impl Known {
    /// What the arguments say, where they say more or something else than the event or process.
    pub(super) fn new(args: &Args, host: &dyn Host) -> Result<Self> {
        let mut known = match (args.event, args.pid) {
            (Some(id), _) => Self::of_event(&event(id, args.events.as_deref())?),
            (None, Some(pid)) => Self::of_process(Path::new("/proc"), pid)?,
            // Without a word on it, who describes a launch means one of the host's.
            (None, None) => Self {
                container: Some(false),
                ..Self::default()
            },
        };
        known.add(args, host)?;
        Ok(known)
    }

    fn add(&mut self, args: &Args, host: &dyn Host) -> Result<()> {
        let text = |text: &String| text.clone().into_bytes();
        let path = |path: &String| {
            host.resolve(path)
                .unwrap_or_else(|| path.clone())
                .into_bytes()
        };
        let user = |name: &String| id("user", name, |name| host.uid(name));
        let group = |name: &String| id("group", name, |name| host.gid(name));
        if !args.unit.is_empty() {
            self.units = Some(args.unit.iter().map(text).collect());
            self.cgroup = None;
        }
        replace(&mut self.hook, args.on);
        replace(&mut self.exe, args.exe.as_ref().map(path));
        replace(&mut self.cgroup, args.cgroup.as_ref().map(text));
        replace(&mut self.uid, args.user.as_ref().map(user).transpose()?);
        replace(&mut self.gid, args.group.as_ref().map(group).transpose()?);
        if let Some(groups) = &args.groups {
            let names = groups.iter().filter(|name| !name.is_empty());
            self.groups = Some(names.map(group).collect::<Result<_>>()?);
        }
        replace(&mut self.comm, args.comm.as_ref().map(text));
        if !args.argv.is_empty() {
            self.argv = Some(args.argv.iter().map(text).collect());
        }
        replace(&mut self.parent, args.parent.as_ref().map(path));
        replace(&mut self.container, args.container);
        Ok(())
    }

    fn of_event(event: &Event) -> Self {
        let text = |text: &String| text.clone().into_bytes();
        Self {
            hook: Some(event.hook),
            exe: Some(text(&event.exe)),
            cgroup: event.cgroup.as_ref().map(text),
            units: None,
            uid: Some(event.uid),
            gid: Some(event.gid),
            groups: event.groups.clone(),
            comm: Some(text(&event.comm)),
            argv: event
                .argv
                .as_ref()
                .map(|argv| argv.iter().map(text).collect()),
            parent: event.parent.as_ref().map(text),
            container: Some(event.container),
        }
    }

    /// The launch by which a process came to be what it is, as far as /proc still has it: its
    /// launcher had its cgroup and its credentials, and was made by the process above it.
    fn of_process(proc: &Path, pid: u32) -> Result<Self> {
        let folder = proc.join(pid.to_string());
        let read = |name: &str| fs::read(folder.join(name)).ok();
        let status = fs::read_to_string(folder.join("status"))
            .with_context(|| format!("cannot read what process {pid} is"))?;
        // Real, effective, saved, and of the file system.
        let effective = |name| ids(&status, name)?.get(1).copied();
        let above = ids(&status, "PPid:").and_then(|ids| ids.first().copied());
        let above = above.filter(|ppid| *ppid > 0);
        let above = above.map(|ppid| proc.join(ppid.to_string()));
        let comm = |folder: &PathBuf| {
            Some(
                fs::read(folder.join("comm"))
                    .ok()?
                    .trim_ascii_end()
                    .to_vec(),
            )
        };
        Ok(Self {
            hook: Some(Hook::Exec),
            exe: program(&folder),
            cgroup: read("cgroup").and_then(|text| unified(&text)),
            units: None,
            uid: effective("Uid:"),
            gid: effective("Gid:"),
            groups: ids(&status, "Groups:"),
            comm: above.as_ref().and_then(comm),
            argv: read("cmdline").map(|text| arguments(&text)),
            parent: above.as_deref().and_then(program),
            container: contained(proc, &folder),
        })
    }

    /// That of this program by this process. Who may not see whose namespaces it is in takes it for
    /// one of the host's.
    pub(in crate::cli) fn of_own_exec(exe: PathBuf, argv: Vec<Vec<u8>>) -> Result<Self> {
        let this = Self::of_process(Path::new("/proc"), std::process::id())?;
        let comm = fs::read("/proc/self/comm").ok();
        Ok(Self {
            exe: Some(exe.into_os_string().into_vec()),
            argv: Some(argv),
            comm: comm.map(|comm| comm.trim_ascii_end().to_vec()),
            parent: this.exe,
            container: this.container.or(Some(false)),
            ..this
        })
    }

    /// For the evaluator.
    pub(in crate::cli) fn launch(&self) -> Launch<'_> {
        Launch {
            hook: self.hook.unwrap_or(Hook::Exec),
            exe: self.exe.as_deref(),
            cgroup: self.cgroup.as_deref(),
            units: self
                .units
                .as_ref()
                .map(|units| units.iter().map(Vec::as_slice).collect()),
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.as_deref(),
            comm: self.comm.as_deref(),
            argv: self
                .argv
                .as_ref()
                .map(|argv| argv.iter().map(Vec::as_slice).collect()),
            parent: self.parent.as_deref(),
            container: self.container,
        }
    }
}

fn replace<T>(known: &mut Option<T>, said: Option<T>) {
    if said.is_some() {
        *known = said;
    }
}

/// The event of this number, in a file or else of those that the daemon remembers.
fn event(id: u64, file: Option<&Path>) -> Result<Event> {
    let (events, place) = match file {
        Some(file) => (replay::read(file)?, file.display().to_string()),
        None => (remembered()?, "the daemon".into()),
    };
    let found = events.into_iter().find(|event| event.id == id);
    found.with_context(|| format!("{place} has no event {id}"))
}

fn remembered() -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let question = Question::Events { follow: false };
    daemon::ask_on(&question, Some(PATIENCE), |event| {
        events.push(event);
        Ok(())
    })
    .context("without a daemon, say with --events in which file the event was recorded")?;
    Ok(events)
}

/// The number that is meant by a name or a number.
fn id(
    what: &str,
    name: &str,
    ask: impl Fn(&str) -> std::result::Result<Option<u32>, String>,
) -> Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match ask(name) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => bail!("this machine has no {what} {name:?}; give its number"),
        Err(why) => Err(anyhow!(
            "cannot look up the {what} {name:?}: {why}; give its number"
        )),
    }
}

/// The numbers in this line of /proc/PID/status.
fn ids(status: &str, name: &str) -> Option<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().map(|id| id.parse().ok()).collect()
}

/// The program that a process runs, as its path is from the root directory of the process.
fn program(folder: &Path) -> Option<Vec<u8>> {
    let path = fs::read_link(folder.join("exe")).ok()?;
    let root = fs::read_link(folder.join("root")).unwrap_or_default();
    let below = path
        .strip_prefix(root)
        .map_or(path.clone(), |below| Path::new("/").join(below));
    Some(below.into_os_string().into_vec())
}

/// The path in the unified hierarchy, of what /proc/PID/cgroup has (cgroups(7)).
fn unified(text: &[u8]) -> Option<Vec<u8>> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::"))?;
    Some(path.to_vec())
}

/// Of what /proc/PID/cmdline has.
fn arguments(text: &[u8]) -> Vec<Vec<u8>> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// Whether a process passes for a container's: by its root directory and, as far as it can be
/// seen from the namespaces of both, by whose its mount namespace is.
fn contained(proc: &Path, folder: &Path) -> Option<bool> {
    let first = proc.join("1");
    let of = |folder: &Path, name: &str| {
        let metadata = fs::metadata(folder.join(name)).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let same = |name: &str| Some(of(folder, name)? == of(&first, name)?);
    if !same("root")? {
        return Some(true);
    }
    if same("ns/mnt")? || same("ns/user")? {
        return Some(false);
    }
    None
}

#[cfg(test)]
mod tests;
