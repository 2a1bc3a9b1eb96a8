// SPDX-License-Identifier: GPL-2.0-only
//! Timers of the loop.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::read;

/// The shortest time: at 0 a timer would be off.
const SOON: TimeSpec = TimeSpec::new(0, 1);

/// A timer that is off until it is set.
pub(super) struct Alarm(TimerFd);

impl Alarm {
    /// A timer of a clock.
    pub(super) fn new(clock: ClockId) -> Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        TimerFd::new(clock, flags)
            .map(Self)
            .context("cannot make a timer")
    }

    /// Rings after each such time; `None`: never.
    pub(super) fn every(&self, time: Option<Duration>) -> Result<()> {
        self.set(time.map(|time| Expiration::Interval(TimeSpec::from_duration(time))))
    }

    /// Rings at once, and then after each such time; `None`: never.
    pub(super) fn at_once_and_every(&self, time: Option<Duration>) -> Result<()> {
        let times = |time| Expiration::IntervalDelayed(SOON, TimeSpec::from_duration(time));
        self.set(time.map(times))
    }

    /// Rings once, after this time; `None`: never.
    pub(super) fn once(&self, time: Option<Duration>) -> Result<()> {
        let once = |time| Expiration::OneShot(TimeSpec::from_duration(time).max(SOON));
        self.set(time.map(once))
    }

    fn set(&self, expiration: Option<Expiration>) -> Result<()> {
        match expiration {
            Some(expiration) => self.0.set(expiration, TimerSetTimeFlags::empty()),
            None => self.0.unset(),
        }
        .context("cannot set a timer")
    }

    /// Makes it unreadable until it rings again; whether it had rung, which it has not if it was set
    /// meanwhile.
    pub(super) fn quiet(&self) -> bool {
        read(&self.0, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
