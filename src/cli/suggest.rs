// SPDX-License-Identifier: GPL-2.0-only
//! `coregate suggest`: a policy to begin with.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use humantime::format_duration;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::{Uid, User};

use super::daemon::can_stand_here;
use super::{Error, Exit, Result, mode, output};
use crate::daemon::{event_of, hold_signals, signals};
use crate::gate::Gate;
use crate::policy::{Policy, Source, parse};
use crate::policy_file::{LoadError, ThisHost};
use crate::report::{Seen, Surroundings};
use crate::topology::{SYSFS, Topology};

/// Watch launches, and write a policy to begin with
///
/// It looks on for a while, beside a gate or without one, and changes no verdict. What it writes are
/// rules for the programs that were launched in that time and still run, most launches first, each
/// with what was seen of it. Those that have ended by then, and shells, are commented out.
///
/// SIGINT (Ctrl-C) ends it early: it writes what it has seen so far.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// For how long, such as 60s or 1h
    #[arg(long, value_name = "TIME", value_parser = mode::time)]
    observe: Duration,

    /// Write to this file, which must not be there yet [default: stdout]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// By this policy all launches of the host are told, and nothing else comes of them.
const ALL: &str = "\
[gate]
mode = \"observe\"
event_rate = 0
[[rule]]
name = \"all\"
exe = \"/usr/\"
action = \"log\"
hold = \"none\"
";

/// Runs `coregate suggest`.
pub(super) fn run(args: &Args) -> Result {
    can_stand_here()?;
    let begin = Instant::now();
    let (seen, lost) = watch(begin + args.observe)?;
    let shells = fs::read_to_string("/etc/shells").unwrap_or_default();
    let resolved = |path: &str| Some(fs::canonicalize(path).ok()?.to_str()?.to_owned());
    let text = seen.policy(&Surroundings {
        user: &|uid| Some(User::from_uid(Uid::from_raw(uid)).ok()??.name),
        runs: &runs,
        shells: shells.lines().filter_map(resolved).collect(),
        time: format_duration(Duration::from_secs(begin.elapsed().as_secs())).to_string(),
        lost,
    });
    match &args.output {
        None => output::stdout(text.trim_end())?,
        Some(path) => write(path, &text)?,
    }
    Ok(Exit::Ok)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = fs::File::create_new(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn policy() -> std::result::Result<Policy, LoadError> {
    let sources = [Source::new("suggest", ALL)];
    let mut policy = parse(&sources, &ThisHost::new()).map_err(|errors| LoadError::Invalid {
        path: "suggest".into(),
        errors,
    })?;
    // Those of every program: what a policy that somebody writes may not have.
    for rule in &mut policy.rules {
        rule.selectors.exe.clear();
    }
    Ok(policy)
}

/// The launches until then, or until a signal; and how many were lost.
fn watch(end: Instant) -> std::result::Result<(Seen, u64), Error> {
    let policy = policy().map_err(anyhow::Error::from)?;
    let topology =
        Topology::read(Path::new(SYSFS)).context("cannot read this machine's topology")?;
    hold_signals()?;
    let signals = signals()?;
    let mut storage = MaybeUninit::uninit();
    let gate = Gate::look_on(&mut storage, &policy, &topology).map_err(anyhow::Error::from)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
    for (fd, token) in [(signals.as_fd(), 0), (gate.events_fd(), 1)] {
        epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))
            .context("cannot watch a descriptor")?;
    }
    let mut seen = Seen::default();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut ready = [EpollEvent::empty(); 2];
        let time = EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX);
        let count = epoll.wait(&mut ready, time).unwrap_or(0);
        for record in gate.take_events().map_err(anyhow::Error::from)? {
            seen.add(&event_of(&record));
        }
        if left.is_zero() || ready[..count].iter().any(|event| event.data() == 0) {
            let (failures, unread) = gate.failures().map_err(anyhow::Error::from)?;
            return Ok((seen, failures.events_lost + unread));
        }
    }
}

/// Whether the process still runs this program, or as an interpreter this script.
fn runs(pid: u32, exe: &str) -> bool {
    let folder = Path::new("/proc").join(pid.to_string());
    let program = fs::read_link(folder.join("exe"));
    let words = || fs::read(folder.join("cmdline")).unwrap_or_default();
    program.is_ok_and(|program| program == Path::new(exe))
        || words()
            .split(|byte| *byte == 0)
            .any(|word| word == exe.as_bytes())
}
