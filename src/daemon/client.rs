// SPDX-License-Identifier: GPL-2.0-only
//! Asking the daemon.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;

use super::control::{READERS, SOCKET};
use super::protocol::{Answer, Question};
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
        io::ErrorKind::PermissionDenied => bail!(
            "only root and members of the group {READERS} may ask the daemon ({}: permission \
             denied); try with sudo",
            path.display()
        ),
        _ => Err(error).with_context(|| format!("cannot connect to {}", path.display())),
    }
}
