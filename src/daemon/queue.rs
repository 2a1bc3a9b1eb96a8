// SPDX-License-Identifier: GPL-2.0-only
//! Those who wait for cores: a queue for each rule, first come first served. The gate admits, nobody
//! else: the first of a queue is told to try its exec, by the end of a claim or, as cores come free in
//! other ways too, after pauses that grow. Nobody else of the queue is woken.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::timerfd::ClockId;
use nix::time::{self, clock_gettime};

use super::alarm::Alarm;
use super::clients::{Peer, Reply, TurnedAway, count};
use super::control::put;
use super::protocol::{Answer, Turn, Wait};

/// How long the first may take to try: one that is stopped does not keep the others.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first pause after a try in vain; each is twice the one before. After a claim's end its program may
/// be running still, for a moment. Else a core has to come free that nobody holds, of which nobody tells.
const PAUSE_AFTER_END: Duration = Duration::from_millis(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// How long those who waited for the daemon before this one have to come back before it is anybody's
/// turn.
const RETURN: Duration = Duration::from_secs(2);

/// And before their places are lost.
pub const KEPT: Duration = Duration::from_secs(30);

/// How many there can be of root, of each other user, and of all of these.
const MOST_OF_ROOT: usize = 256;
const MOST_OF_USER: usize = 64;
const MOST_OF_USERS: usize = 256;

const TIMER: u64 = 0;

#[derive(Clone, Copy, PartialEq)]
enum State {
    Waits,
    /// It was told to try, and has this long.
    Tries(Instant),
    /// It has tried in vain, and tries again then.
    Pauses(Instant),
}

struct Waiter {
    stream: OwnedFd,
    peer: Peer,
    rule: String,
    state: State,
    /// How long the next pause is.
    pause: Duration,
}

/// Since when somebody waits, and a number.
type Place = (u64, u64);

/// All who wait, in the order of their places.
pub(super) struct Queue {
    epoll: Epoll,
    timer: Alarm,
    waiters: BTreeMap<Place, Waiter>,
    next: u64,
    /// When the daemon began, by both clocks.
    opened: Instant,
    opened_ms: u64,
    turned_away: TurnedAway,
}

impl Queue {
    pub(super) fn new(turned_away: TurnedAway) -> Result<Self> {
        let queue = Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            timer: Alarm::new(ClockId::CLOCK_MONOTONIC)?,
            waiters: BTreeMap::new(),
            next: TIMER + 1,
            opened: Instant::now(),
            opened_ms: boot_ms()?,
            turned_away,
        };
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, TIMER);
        queue.epoll.add(&queue.timer, readable)?;
        Ok(queue)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Takes somebody in. Their word on since when they wait counts only if they can have waited
    /// for an earlier daemon: nobody comes before others by it later on.
    pub(super) fn add(&mut self, (stream, peer, wait): (OwnedFd, Peer, Wait)) -> Result<()> {
        if self.is_full(peer) {
            count(&self.turned_away.dropped);
            let told = Reply::refusal("too many wait; end one of them");
            let _ = send(stream.as_raw_fd(), &told.bytes, MsgFlags::MSG_NOSIGNAL);
            return Ok(());
        }
        let returns = wait.since < self.opened_ms && self.opened.elapsed() < KEPT;
        let since = if returns { wait.since } else { boot_ms()? };
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, self.next);
        self.epoll.add(&stream, readable)?;
        let waiter = Waiter {
            stream,
            peer,
            rule: wait.rule,
            state: State::Waits,
            pause: FIRST_PAUSE,
        };
        self.waiters.insert((since, self.next), waiter);
        self.next += 1;
        self.proceed()
    }

    fn is_full(&self, peer: Peer) -> bool {
        let peers = || self.waiters.values().map(|waiter| waiter.peer);
        let alone = peers().filter(|other| *other == peer).count();
        match peer {
            Peer::Root => alone >= MOST_OF_ROOT,
            _ => {
                let users = peers().filter(|other| *other != Peer::Root).count();
                alone >= MOST_OF_USER || users >= MOST_OF_USERS
            }
        }
    }

    /// Does what there is to do, without waiting.
    pub(super) fn serve(&mut self) -> Result<()> {
        let mut ready = [EpollEvent::empty(); 64];
        let count = self.epoll.wait(&mut ready, EpollTimeout::ZERO).unwrap_or(0);
        for event in &ready[..count] {
            match event.data() {
                TIMER => _ = self.timer.quiet(),
                number => self.hear(number)?,
            }
        }
        self.proceed()
    }

    /// A claim has ended: the first of each queue is to try.
    pub(super) fn ring(&mut self) -> Result<()> {
        for place in self.first() {
            if let Some(waiter) = self.waiters.get_mut(&place) {
                waiter.ring();
            }
        }
        self.proceed()
    }

    /// What somebody says is that they tried in vain; who says it unasked, or goes, is none of
    /// those who wait any more.
    fn hear(&mut self, number: u64) -> Result<()> {
        let mut waiters = self.waiters.iter_mut();
        let Some((&place, waiter)) = waiters.find(|(place, _)| place.1 == number) else {
            return Ok(());
        };
        let heard = recv(
            waiter.stream.as_raw_fd(),
            &mut [0; 16],
            MsgFlags::MSG_DONTWAIT,
        );
        match (heard, &waiter.state) {
            (Err(Errno::EAGAIN | Errno::EINTR), _) => {}
            (Ok(1..), State::Tries(_)) => waiter.pause(),
            _ => self.dismiss(place)?,
        }
        Ok(())
    }

    /// Tells those to try whose turn it is, and wakes up when the next one's time is over.
    fn proceed(&mut self) -> Result<()> {
        let now = Instant::now();
        if now < self.opened + RETURN {
            return self.timer.once(Some(self.opened + RETURN - now));
        }
        // Who is dismissed makes room for the next.
        while let Some(place) = self.late(now) {
            count(&self.turned_away.dropped);
            self.dismiss(place)?;
        }
        let mut next = None;
        for place in self.first() {
            let Some(waiter) = self.waiters.get_mut(&place) else {
                continue;
            };
            let until = waiter.proceed(now);
            next = Some(next.unwrap_or(until).min(until));
        }
        self.timer.once(next.map(|next: Instant| next - now))
    }

    /// One of those who should have tried by now.
    fn late(&self, now: Instant) -> Option<Place> {
        let late = |waiter: &Waiter| matches!(waiter.state, State::Tries(until) if until <= now);
        let mut waiters = self.waiters.iter();
        waiters
            .find(|(_, waiter)| late(waiter))
            .map(|(place, _)| *place)
    }

    /// The first of each queue.
    fn first(&self) -> Vec<Place> {
        let mut rules = HashSet::new();
        let first = |(place, waiter): (&Place, &'_ Waiter)| (*place, waiter.rule.clone());
        let all = self.waiters.iter().map(first);
        all.filter_map(|(place, rule)| rules.insert(rule).then_some(place))
            .collect()
    }

    fn dismiss(&mut self, place: Place) -> Result<()> {
        if let Some(waiter) = self.waiters.remove(&place) {
            self.epoll.delete(&waiter.stream)?;
        }
        Ok(())
    }
}

impl Waiter {
    /// A claim has ended; if it is just trying, perhaps after its look at the cores.
    fn ring(&mut self) {
        if matches!(self.state, State::Tries(_)) {
            self.pause = Duration::ZERO;
        } else {
            self.pause = PAUSE_AFTER_END;
            self.state = State::Waits;
        }
    }

    fn pause(&mut self) {
        self.state = State::Pauses(Instant::now() + self.pause);
        self.pause = (2 * self.pause).clamp(PAUSE_AFTER_END, LAST_PAUSE);
    }

    /// Tells it to try, if it is time; until when there is nothing to do for it then.
    fn proceed(&mut self, now: Instant) -> Instant {
        match self.state {
            State::Tries(until) => until,
            State::Pauses(until) if until > now => until,
            State::Pauses(_) | State::Waits => {
                let mut line = Vec::new();
                put(&mut line, &Answer::Answer(Turn::Now));
                // One that is gone is heard of.
                let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                let _ = send(self.stream.as_raw_fd(), &line, flags);
                let until = now + PATIENCE;
                self.state = State::Tries(until);
                until
            }
        }
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// Milliseconds of CLOCK_BOOTTIME.
pub(super) fn boot_ms() -> Result<u64> {
    let now = clock_gettime(time::ClockId::CLOCK_BOOTTIME)?;
    Ok(Duration::from(now).as_millis() as u64)
}

#[cfg(test)]
mod tests;
