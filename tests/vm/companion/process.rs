// SPDX-License-Identifier: GPL-2.0-only
//! A running `coregate companion`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) const COREGATE: &str = "/bin/coregate";

/// How long the verifier and the swap may take on an emulated machine that is busy.
const START: Duration = Duration::from_secs(240);

/// The companion under test; dropping it kills it.
pub(crate) struct Companion {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
}

impl Companion {
    /// Starts it, and waits until it is in charge.
    pub(crate) fn start(args: &[&str]) -> Result<Self> {
        let mut child = Command::new(COREGATE)
            .arg("companion")
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let lines = read_lines(child.stderr.take().context("no stderr")?);
        let mut companion = Self {
            child,
            lines,
            said: String::new(),
        };
        companion.wait_for_line("active", 1)?;
        Ok(companion)
    }

    /// Waits until it has said so many lines with this text.
    pub(crate) fn wait_for_line(&mut self, text: &str, times: usize) -> Result<()> {
        let end = Instant::now() + START;
        while self.said.lines().filter(|line| line.contains(text)).count() < times {
            match self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.said.push_str(&line);
                    self.said.push('\n');
                }
                Err(why) => bail!("no {times} x {text:?} ({why}) in: {}", self.said),
            }
        }
        Ok(())
    }

    /// How many times it has gone to sleep.
    pub(crate) fn wakeups(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        Ok(count.context("no count of switches")?.trim().parse()?)
    }

    /// Sends the signal, and waits for the end.
    pub(crate) fn stop(self, signal: Signal) -> Result<End> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?;
        self.end(Duration::from_secs(20))
    }

    /// Waits until it has ended by itself.
    pub(crate) fn end(mut self, time: Duration) -> Result<End> {
        let until = Instant::now() + time;
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.said.push_str(&line);
                    self.said.push('\n');
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(why) => bail!("it goes on ({why}), and said: {}", self.said),
            }
        }
        let code = self.child.wait()?.code();
        Ok(End {
            code,
            said: std::mem::take(&mut self.said),
        })
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // It may have ended; then neither does anything.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Whether a scheduler is loaded, in the kernel's words.
pub(crate) fn state() -> Result<String> {
    Ok(fs::read_to_string("/sys/kernel/sched_ext/state")?
        .trim()
        .to_owned())
}
