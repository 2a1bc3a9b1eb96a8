// SPDX-License-Identifier: GPL-2.0-only
//! Where metrics leave the daemon as `[metrics]` of the policy says: served by HTTP, and written to
//! a file. Without that section nothing is open and nothing wakes the daemon up.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::timerfd::ClockId;
use nix::unistd::Gid;

use super::alarm::Alarm;
use super::clients::{Clients, TurnedAway, count};
use super::http::Scrapes;
use crate::policy::{Listen, Metrics};

/// The metrics as others get them.
pub(super) struct Exporter {
    settings: Metrics,
    clients: Option<Clients>,
    /// Goes off when the file is to be written.
    timer: Alarm,
    epoll: Epoll,
    readers: Option<Gid>,
    turned_away: TurnedAway,
    /// The file could not be written last time.
    failing: bool,
    textfiles_lost: Rc<Cell<u64>>,
}

/// Settings that can hold at once: where they let listen is taken.
pub(super) struct Prepared {
    settings: Metrics,
    clients: Option<Clients>,
}

impl Exporter {
    /// One that does nothing yet; files that could not be written are counted in `textfiles_lost`.
    pub(super) fn new(
        readers: Option<Gid>,
        turned_away: TurnedAway,
        textfiles_lost: Rc<Cell<u64>>,
    ) -> Result<Self> {
        let exporter = Self {
            settings: Metrics::default(),
            clients: None,
            timer: Alarm::new(ClockId::CLOCK_MONOTONIC)?,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            readers,
            turned_away,
            failing: false,
            textfiles_lost,
        };
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        exporter.epoll.add(&exporter.timer, readable)?;
        Ok(exporter)
    }

    /// Takes the address that these settings name, if it is another one.
    ///
    /// # Errors
    ///
    /// It cannot be had; nothing changes then.
    pub(super) fn prepare(&self, settings: &Metrics) -> Result<Prepared> {
        let listen = settings.listen.as_ref();
        let listen = listen.filter(|listen| self.settings.listen.as_ref() != Some(listen));
        let clients = listen.map(|listen| {
            let turned_away = self.turned_away.clone();
            let clients = match listen {
                Listen::Port(address) => Clients::at_port(*address, turned_away),
                Listen::Path(path) => Clients::at_path(path, self.readers, turned_away),
            };
            clients.context("`listen` of [metrics] does not work; name another address or port")
        });
        Ok(Prepared {
            settings: settings.clone(),
            clients: clients.transpose()?,
        })
    }

    /// Lets these settings hold.
    pub(super) fn apply(&mut self, prepared: Prepared) -> Result<()> {
        let Prepared { settings, clients } = prepared;
        if settings.listen != self.settings.listen {
            if let Some(before) = self.clients.take() {
                self.epoll.delete(&before)?;
            }
            if let Some(clients) = &clients {
                let readable = EpollEvent::new(EpollFlags::EPOLLIN, 0);
                self.epoll.add(clients, readable)?;
            }
            self.clients = clients;
        }
        let interval = settings.textfile.as_ref().map(|_| settings.interval);
        self.timer.at_once_and_every(interval)?;
        self.settings = settings;
        Ok(())
    }

    /// Does what there is to do, without waiting for anybody. Why the file could not be written, if
    /// it could be before.
    ///
    /// # Errors
    ///
    /// The kernel's own means failed.
    pub(super) fn serve(
        &mut self,
        mut text: impl FnMut() -> Result<String, String>,
    ) -> Result<Option<String>> {
        if let Some(clients) = &mut self.clients {
            let turned_away = &self.turned_away;
            clients.serve(&mut Scrapes {
                text: &mut text,
                turned_away,
            })?;
        }
        let (true, Some(path)) = (self.timer.quiet(), &self.settings.textfile) else {
            return Ok(None);
        };
        let written = text()
            .map_err(io::Error::other)
            .and_then(|text| replace(path, &text));
        let before = std::mem::replace(&mut self.failing, written.is_err());
        Ok(written.err().and_then(|error| {
            count(&self.textfiles_lost);
            let line = format!("cannot write the metrics to {}: {error}", path.display());
            (!before).then_some(line)
        }))
    }
}

impl AsFd for Exporter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// Lets the file at `path` have this text, from one instant on. In the folder others may write: no
/// link of theirs is followed. The name of the new file is none that node_exporter reads.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("prom.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests;
