// SPDX-License-Identifier: GPL-2.0-only
//! A file of verdicts, each a line of JSON as `coregate events --json` has it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};

use super::queue::Destination;
use crate::report::Event;

/// Verdicts are not everybody's business; a group that may read them is for the folder to give.
const MODE: u32 = 0o640;

/// A verdict as a line.
pub(super) fn record(event: &Event) -> Vec<u8> {
    // There is no key that is not a string, and writing to memory does not fail.
    let mut record = serde_json::to_vec(event).unwrap_or_default();
    record.push(b'\n');
    record
}

/// A file that is appended to, whatever others do to it: it may be renamed, removed or truncated.
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    /// It ends with a part of a line that could not be taken back.
    torn: bool,
}

impl LogFile {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            file: None,
            torn: false,
        }
    }

    /// Not through a link, which could lead anywhere; and not a FIFO, or a device.
    fn open(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(MODE)
            .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
            .open(&self.path)?;
        if !file.metadata()?.is_file() {
            let error = "it is not a regular file";
            return Err(io::Error::new(ErrorKind::InvalidInput, error));
        }
        Ok(file)
    }
}

impl Destination for LogFile {
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            // What is written to a removed file nobody ever reads.
            Some(file) if file.metadata()?.nlink() > 0 => file,
            _ => {
                self.torn = false;
                self.open()?
            }
        };
        if self.torn {
            file.write_all(b"\n")?;
        }
        let (written, result) = append(&mut file, record);
        self.torn = result.is_err() && written > 0 && take_back(&file, written).is_err();
        self.file = Some(file);
        result
    }

    fn reopen(&mut self) {
        self.file = None;
    }
}

/// Appends a record; how much of it, also if that is not all.
fn append(file: &mut File, record: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < record.len() {
        match file.write(&record[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Takes the part of a line off the end, so that each line is whole.
fn take_back(file: &File, part: usize) -> io::Result<()> {
    match file.metadata()?.len().checked_sub(part as u64) {
        Some(size) => file.set_len(size),
        // Somebody truncated it.
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
