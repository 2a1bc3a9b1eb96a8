// SPDX-License-Identifier: GPL-2.0-only
//! What the service manager is told, if one started the daemon: sd_notify(3).

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::sys::timerfd::ClockId;
use sd_notify::{NotifyState, notify, watchdog_enabled};

use super::alarm::Alarm;

/// The service manager's side of the daemon. Without a manager nothing is told, and the timer never
/// expires.
pub(super) struct Service {
    beat: Alarm,
    /// Something happened that the status line may show.
    changed: bool,
}

impl Service {
    /// Prepares the beat that the manager's watchdog waits for: it wants one in each
    /// `WATCHDOG_USEC`, and gets two.
    ///
    /// # Errors
    ///
    /// The timer could not be made.
    pub(super) fn new() -> Result<Self> {
        let beat = Alarm::new(ClockId::CLOCK_MONOTONIC)?;
        let limit = watchdog_enabled().filter(|limit| !limit.is_zero());
        beat.every(limit.map(|limit| limit / 2))?;
        Ok(Self {
            beat,
            changed: false,
        })
    }

    /// The gate stands, and is as this line says.
    ///
    /// # Errors
    ///
    /// The manager could not be told.
    pub(super) fn ready(&mut self, status: &str) -> Result<()> {
        self.changed = false;
        tell(&[NotifyState::Ready, NotifyState::Status(status)])
    }

    /// The policy is being read again; [`Service::ready`] ends that.
    ///
    /// # Errors
    ///
    /// The manager could not be told.
    pub(super) fn reloading(&self) -> Result<()> {
        let now = NotifyState::monotonic_usec_now().context("cannot read the clock")?;
        tell(&[NotifyState::Reloading, now])
    }

    /// The daemon ends.
    ///
    /// # Errors
    ///
    /// The manager could not be told.
    pub(super) fn stopping(&self) -> Result<()> {
        tell(&[NotifyState::Stopping])
    }

    /// What the status line shows may have changed; it is told with the next beat.
    pub(super) fn changed(&mut self) {
        self.changed = true;
    }

    /// Tells that the daemon lives.
    ///
    /// # Errors
    ///
    /// The manager could not be told.
    pub(super) fn beat(&self) -> Result<()> {
        self.beat.quiet();
        tell(&[NotifyState::Watchdog])
    }

    /// Whether the status line may show something else than was told, and is to be told now.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Tells how the gate is.
    ///
    /// # Errors
    ///
    /// The manager could not be told.
    pub(super) fn status(&self, line: &str) -> Result<()> {
        tell(&[NotifyState::Status(line)])
    }
}

fn tell(state: &[NotifyState<'_>]) -> Result<()> {
    notify(state).context("cannot tell the service manager ($NOTIFY_SOCKET)")
}

impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.beat.as_fd()
    }
}
