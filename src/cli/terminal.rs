// SPDX-License-Identifier: GPL-2.0-only
//! The terminal that stdout is: its size, a screen on it, and what interrupts a command that goes
//! on for ever.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstream::adapter::strip_str;
use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::crossterm::cursor::{Hide, MoveTo, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, size};

use super::output;
use crate::report::Room;

/// How much room stdout has: on a terminal a screen.
pub(super) fn room() -> Room {
    let size = io::stdout().is_terminal().then(size).and_then(Result::ok);
    Room {
        width: size.map(|(width, _)| width.into()),
        height: size.map(|(_, height)| height.into()),
    }
}

/// A screen of its own, until it is dropped.
pub(super) struct Screen;

impl Screen {
    /// Begins with an empty one.
    pub(super) fn open() -> Result<Self> {
        execute!(io::stdout(), EnterAlternateScreen, Hide).context("cannot write to stdout")?;
        Ok(Self)
    }

    /// Shows a text in place of the one before; whether there is still a reader.
    pub(super) fn show(&self, text: &str) -> Result<bool> {
        let text = if output::stdout_is_styled() {
            text.to_owned()
        } else {
            strip_str(text).to_string()
        };
        let text = text.trim_end().replace('\n', "\n\x1b[K");
        let mut stdout = io::stdout().lock();
        let moved = execute!(stdout, MoveTo(0, 0));
        let shown = moved.and_then(|()| write!(stdout, "\x1b[K{text}\x1b[J"));
        output::written(shown.and_then(|()| stdout.flush()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing more.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    }
}

/// What ends or interrupts a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// Nothing did: the time is over.
    None,
    /// The terminal has another size.
    Resize,
    /// Ctrl-C or another signal that ends a program, or nobody reads stdout any more.
    End,
}

/// The signals that end a program.
pub(super) const ENDS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Signals that wait to be asked for, so that a terminal can be left as it was.
pub(super) struct Interrupts {
    signals: SignalFd,
    epoll: Epoll,
}

impl Interrupts {
    /// From here on, these signals wait.
    pub(super) fn hold(signals: &[Signal]) -> Result<Self> {
        let signals: SigSet = signals.iter().copied().collect();
        signals.thread_block().context("cannot block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&signals, flags).context("cannot make a signalfd")?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        // The end of its reader is always told; a file has none, and cannot be added.
        let _ = epoll.add(io::stdout(), EpollEvent::new(EpollFlags::empty(), 1));
        Ok(Self { signals, epoll })
    }

    /// Waits for so long at most.
    pub(super) fn wait(&self, time: Duration) -> Result<Interrupt> {
        let time = EpollTimeout::try_from(time).unwrap_or(EpollTimeout::MAX);
        let mut ready = [EpollEvent::empty(); 2];
        let count = match self.epoll.wait(&mut ready, time) {
            Err(nix::Error::EINTR) => 0,
            answer => answer.context("cannot wait for signals")?,
        };
        if ready[..count].iter().any(|event| event.data() == 1) {
            return Ok(Interrupt::End);
        }
        let mut interrupt = Interrupt::None;
        while let Some(signal) = self.signals.read_signal()? {
            if signal.ssi_signo != Signal::SIGWINCH as u32 {
                return Ok(Interrupt::End);
            }
            interrupt = Interrupt::Resize;
        }
        Ok(interrupt)
    }
}
