// SPDX-License-Identifier: GPL-2.0-only
//! Asking the daemon.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::de::DeserializeOwned;

use super::control::{READERS, SOCKET};
use super::protocol::{Answer, Question, Turn, Wait};
use super::queue::boot_ms;
use crate::gate::pins;

/// A client gives up on a daemon that says nothing for so long. To turn to another policy takes
/// longest: thousands of rules, and users that a slow directory knows.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// No daemon runs.
#[derive(Debug, thiserror::Error)]
#[error(
    "no daemon is running (nothing listens at {}){}; start one with 'coregate daemon'",
    path.display(),
    if *stands { ", but a gate stands without one" } else { "" }
)]
pub struct NoDaemon {
    path: PathBuf,
    stands: bool,
}

/// This user may not ask.
#[derive(Debug, thiserror::Error)]
#[error(
    "only root and members of the group {READERS} may ask the daemon ({}: permission denied); try \
     with sudo",
    path.display()
)]
pub struct NoRight {
    path: PathBuf,
}

/// Asks the daemon of this machine a question that has one answer.
///
/// # Errors
///
/// No daemon runs, this user may not ask, or the answer is not one. What the daemon refuses is a
/// [`super::Refusal`].
pub fn ask<T: DeserializeOwned>(question: &Question) -> Result<T> {
    let mut found = None;
    ask_on(question, Some(PATIENCE), |answer| {
        found = Some(answer);
        Ok(())
    })?;
    found.ok_or_else(|| anyhow!("the daemon gave no answer; see its log"))
}

/// Asks it one that has several, which may go on for ever.
///
/// # Errors
///
/// Those of [`ask`], and what `each` says.
pub fn ask_on<T: DeserializeOwned>(
    question: &Question,
    patience: Option<Duration>,
    mut each: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let mut stream = connect(Path::new(SOCKET))?;
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    let no_answer = || format!("the daemon at {SOCKET} did not answer");
    stream.write_all(&line).with_context(no_answer)?;
    for line in BufReader::new(stream).lines() {
        let line = line.with_context(no_answer)?;
        match serde_json::from_str(&line)
            .with_context(|| format!("the daemon at {SOCKET} speaks otherwise; restart it"))?
        {
            Answer::Answer(answer) => each(answer)?,
            Answer::Error(refusal) => return Err(refusal.into()),
        }
    }
    Ok(())
}

/// A place in a queue for cores. It is given up when this is dropped, and when its process executes
/// another program.
pub struct Place {
    stream: UnixStream,
    heard: Vec<u8>,
}

/// What there is to do for who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// To try now.
    Now,
    /// To wait no longer.
    TooLate,
    /// To ask for a place again: the daemon has ended, or was not heeded for too long.
    Gone,
}

impl Wait {
    /// From now on, for this rule.
    ///
    /// # Errors
    ///
    /// The kernel has no such clock.
    pub fn begin(rule: String) -> Result<Self> {
        let since = boot_ms()?;
        Ok(Self { rule, since })
    }
}

impl Place {
    /// Asks the daemon for it.
    ///
    /// # Errors
    ///
    /// No daemon runs, or this user may not ask ([`NoRight`]).
    pub fn take(wait: &Wait) -> Result<Self> {
        let mut stream = connect(Path::new(SOCKET))?;
        let mut line = serde_json::to_vec(&Question::Wait(wait.clone()))?;
        line.push(b'\n');
        stream.write_all(&line)?;
        Ok(Self {
            stream,
            heard: Vec::new(),
        })
    }

    /// Waits for the next news, until `end` at most.
    ///
    /// # Errors
    ///
    /// What the daemon refuses is a [`super::Refusal`].
    pub fn news(&mut self, end: Instant) -> Result<News> {
        loop {
            if let Some(line) = self.line() {
                return match serde_json::from_slice(&line)
                    .with_context(|| format!("the daemon at {SOCKET} speaks otherwise"))?
                {
                    Answer::Answer(Turn::Now) => Ok(News::Now),
                    Answer::Error(refusal) => Err(refusal.into()),
                };
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(News::TooLate);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut part = [0; 512];
            match self.stream.read(&mut part) {
                Ok(0) => return Ok(News::Gone),
                Ok(length) => self.heard.extend(&part[..length]),
                Err(error) => match error.kind() {
                    // A signal, such as the one that lets a stopped process go on.
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {}
                    _ => return Ok(News::Gone),
                },
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.heard.iter().position(|byte| *byte == b'\n')?;
        Some(self.heard.drain(..=end).collect())
    }

    /// Says that it was tried in vain.
    pub fn tried(&mut self) {
        // If the daemon is gone, the next news is that.
        let _ = self.stream.write_all(b"\n");
    }
}

fn connect(path: &Path) -> Result<UnixStream> {
    let error = match UnixStream::connect(path) {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Err(NoDaemon {
            path: path.to_owned(),
            stands: pins::stands(),
        }
        .into()),
        io::ErrorKind::PermissionDenied => Err(NoRight {
            path: path.to_owned(),
        }
        .into()),
        _ => Err(error).with_context(|| format!("cannot connect to {}", path.display())),
    }
}
