// SPDX-License-Identifier: GPL-2.0-only
//! This program once more, as a process that does what it is told line by line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

/// A process that is told what to do, and answers.
pub(crate) struct Servant {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Servant {
    /// Starts it with these arguments.
    pub(crate) fn start(words: &[&str]) -> Result<Self> {
        Self::start_as("/bin/coregate-vm", words)
    }

    /// Starts a copy of this program with these arguments.
    pub(crate) fn start_as(program: &str, words: &[&str]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self {
            child,
            orders,
            answers,
        })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it something that it does not answer.
    pub(crate) fn tell(&mut self, order: &str) -> Result<()> {
        Ok(writeln!(self.orders, "{order}")?)
    }

    /// Tells it something, and waits for the line that it answers.
    pub(crate) fn ask(&mut self, order: &str) -> Result<String> {
        self.tell(order)?;
        self.answer()
    }

    /// Waits for the next line that it says.
    pub(crate) fn answer(&mut self) -> Result<String> {
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer)
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) {
        let _ = self.child.wait();
    }
}

impl Drop for Servant {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
