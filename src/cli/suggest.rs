// SPDX-License-Identifier: GPL-2.0-only
//! `coregate suggest`: a policy to begin with.

use std::fs::{self, File};
use std::io::Write;
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
use crate::report::{Seen, Watched};
use crate::topology::{SYSFS, Topology};

/// Watch launches, and write a policy to begin with
///
/// It looks on for a while, beside a gate or without one, and changes no verdict. What it writes are
/// rules for the programs that were launched in that time and still run, the most frequent first, each
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
    // Whether it can be written is known before and not after an hour.
    let file = args.output.as_deref().map(create).transpose()?;
    let seen = watch(args.observe);
    if let (Err(_), Some(path)) = (&seen, &args.output) {
        let _ = fs::remove_file(path);
    }
    let (seen, lost, time) = seen?;
    let shells = fs::read_to_string("/etc/shells").unwrap_or_default();
    let resolved = |path: &str| Some(fs::canonicalize(path).ok()?.to_str()?.to_owned());
    let text = seen.policy(&Watched {
        user: &|uid| Some(User::from_uid(Uid::from_raw(uid)).ok()??.name),
        runs: &runs,
        shells: shells.lines().filter_map(resolved).collect(),
        time: format_duration(Duration::from_secs(time.as_secs())).to_string(),
        lost,
    });
    match file {
        None => output::stdout(text.trim_end())?,
        Some(mut file) => file
            .write_all(text.as_bytes())
            .context("cannot write the policy")?,
    }
    Ok(Exit::Ok)
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create_new(path).with_context(|| format!("cannot make {}", path.display()))
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

/// The launches of this time, or until a signal; how many were lost, and how long it was.
fn watch(time: Duration) -> std::result::Result<(Seen, u64, Duration), Error> {
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
    let words = format_duration(time);
    output::stderr(&format!(
        "watching launches for {words}; Ctrl-C ends it early"
    ));
    let begin = Instant::now();
    let mut seen = Seen::default();
    loop {
        let left = time.saturating_sub(begin.elapsed());
        let mut ready = [EpollEvent::empty(); 2];
        let wait = EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX);
        let count = epoll.wait(&mut ready, wait).unwrap_or(0);
        for record in gate.take_events().map_err(anyhow::Error::from)? {
            seen.add(&event_of(&record));
        }
        if left.is_zero() || ready[..count].iter().any(|event| event.data() == 0) {
            let (failures, unread) = gate.failures().map_err(anyhow::Error::from)?;
            return Ok((seen, failures.events_lost + unread, begin.elapsed()));
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
