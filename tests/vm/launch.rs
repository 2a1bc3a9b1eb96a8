// SPDX-License-Identifier: GPL-2.0-only
//! Programs to launch, and launching them.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc;

use crate::machine::work;

/// What this program does instead of testing when it has this name.
pub(crate) const PROBE: &str = "coregate-probe";

/// The user that the tests launch programs as, when not as root.
pub(crate) const USER: u32 = 1000;

/// What it is when it has one of these names: a program that
/// sleeps until it is killed,
pub(crate) const SLEEPER: &str = "coregate-sleeper";
/// is busy until it is killed,
pub(crate) const SPINNER: &str = "coregate-spinner";
/// does real work until it is killed, in one thread, in two, or in [`CROWDED`],
pub(crate) const WORKER: &str = "coregate-worker";
pub(crate) const PAIR: &str = "coregate-pair";
pub(crate) const CROWD: &str = "coregate-crowd";
/// does so for [`BEAT`] of each [`PERIOD`],
pub(crate) const PERIODIC: &str = "coregate-periodic";
/// executes itself again, as a sleeper,
pub(crate) const AGAIN: &str = "coregate-again";
/// does so from a thread that is not its first,
pub(crate) const THREAD_AGAIN: &str = "coregate-thread-again";
/// ends its first thread while another one sleeps,
pub(crate) const LEADERLESS: &str = "coregate-leaderless";
/// has a child that is busy, and sleeps,
pub(crate) const PARENT: &str = "coregate-parent";
/// works a shift of [`SHIFT_TIME`]: it then adds its number, its beginning and its end in nanoseconds
/// since 1970 to a file, as both arguments say,
pub(crate) const SHIFT: &str = "coregate-shift";
/// makes a process, or a thread, and sleeps if that worked; else it ends with the errno.
pub(crate) const FORKER: &str = "coregate-forker";
pub(crate) const THREADER: &str = "coregate-threader";

pub(crate) const SHIFT_TIME: Duration = Duration::from_millis(100);
pub(crate) const CROWDED: usize = 8;
pub(crate) const PERIOD: Duration = Duration::from_millis(2);
pub(crate) const BEAT: Duration = Duration::from_micros(300);

/// Runs as what this program was launched as, if as one of these; or as a probe, which ends at
/// once. A sleeper first writes its pid, 4 bytes, to the descriptor that its argument names.
pub(crate) fn perform() -> Option<ExitCode> {
    let mut words = std::env::args();
    match words.next()?.as_str() {
        PROBE => {}
        SLEEPER => sleep(words.next()),
        SPINNER => spin(),
        WORKER => toil(1),
        PAIR => toil(2),
        CROWD => toil(CROWDED),
        SHIFT => shift(words.next()?, &words.next()?).ok()?,
        PERIODIC => periodically(),
        AGAIN => again(),
        THREAD_AGAIN => drop(std::thread::spawn(again).join()),
        LEADERLESS => {
            std::thread::spawn(|| sleep(None));
            // SAFETY: ends this thread only, which owns nothing that another one uses.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        PARENT => match fork() {
            Ok(0) => spin(),
            _ => sleep(None),
        },
        FORKER => match fork() {
            Err(errno) => return Some(ExitCode::from(errno as u8)),
            _ => sleep(None),
        },
        THREADER => match std::thread::Builder::new().spawn(|| sleep(None)) {
            Err(error) => return Some(ExitCode::from(error.raw_os_error()? as u8)),
            _ => sleep(None),
        },
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

fn sleep(fd: Option<String>) {
    if let Some(fd) = fd {
        let pid = std::process::id().to_ne_bytes();
        let _ = fs::write(format!("/proc/self/fd/{fd}"), pid);
    }
    loop {
        nix::unistd::pause();
    }
}

fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

fn toil(threads: usize) {
    if threads > 1 {
        std::thread::spawn(move || toil(threads - 1));
    }
    loop {
        work();
    }
}

fn shift(number: String, file: &str) -> Result<()> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH);
    let begin = now()?.as_nanos();
    std::thread::sleep(SHIFT_TIME);
    let mut file = fs::OpenOptions::new().append(true).open(file)?;
    Ok(writeln!(file, "{number} {begin} {}", now()?.as_nanos())?)
}

fn periodically() {
    let mut next = Instant::now();
    loop {
        next = (next + PERIOD).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let start = Instant::now();
        while start.elapsed() < BEAT {
            work();
        }
    }
}

fn again() {
    if let Ok(path) = std::env::current_exe() {
        let error = Command::new(path).arg0(SLEEPER).exec();
        eprintln!("cannot execute again: {error}");
    }
}

/// The child is ended with its parent, even if that is gone before it has asked for it.
fn fork() -> std::result::Result<libc::pid_t, Errno> {
    // SAFETY: this process has one thread; the calls of the child take no memory.
    unsafe {
        let parent = libc::getpid();
        let pid = Errno::result(libc::fork())?;
        if pid == 0 {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() != parent {
                libc::_exit(0);
            }
        }
        Ok(pid)
    }
}

/// A program at `path` that ends at once, with success.
pub(crate) fn program(path: &str) -> Result<()> {
    if let Some(folder) = Path::new(path).parent() {
        fs::create_dir_all(folder)?;
    }
    // A program that still runs cannot be written over.
    let _ = fs::remove_file(path);
    fs::copy("/bin/coregate-vm", path).with_context(|| format!("cannot make {path}"))?;
    Ok(())
}

/// A script at `path` that ends at once, with success.
pub(crate) fn script(path: &str) -> Result<()> {
    fs::write(path, "#!/bin/sh\nexit 0\n")?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// The way to launch a program that was made here.
pub(crate) fn command(path: &str) -> Command {
    let mut command = Command::new(path);
    command.arg0(PROBE).stdin(Stdio::null());
    command
}

/// Launches a program: `None` if it started, else the errno of its exec. Also its pid.
pub(crate) fn launch(command: &mut Command) -> Result<Option<i32>> {
    match command.status() {
        Ok(status) => {
            ensure!(
                status.success(),
                "{command:?} started, but failed: {status}"
            );
            Ok(None)
        }
        Err(error) => errno(&error).map(Some),
    }
}

/// Launches a program and expects that it starts.
pub(crate) fn starts(path: &str) -> Result<()> {
    match launch(&mut command(path))? {
        None => Ok(()),
        Some(errno) => bail!(
            "{path} did not start: {}",
            io::Error::from_raw_os_error(errno)
        ),
    }
}

/// Launches a program and expects that its exec fails with `expected`.
pub(crate) fn fails(path: &str, expected: i32) -> Result<()> {
    let found = launch(&mut command(path))?;
    ensure!(
        found == Some(expected),
        "{path}: expected errno {expected}, found {found:?} (None: it started)"
    );
    Ok(())
}

fn errno(error: &io::Error) -> Result<i32> {
    error
        .raw_os_error()
        .with_context(|| format!("not an errno: {error}"))
}
