// SPDX-License-Identifier: GPL-2.0-only
//! Clients of a socket, of which each asks once and is answered, or told what comes. None of them can
//! hold the daemon up: nothing here waits, each has only so much room and time, and who takes more
//! places than there are makes room for the next.

mod door;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::timerfd::ClockId;
use nix::unistd::Gid;

use super::alarm::Alarm;
use super::protocol::Wait;
use door::Listener;
pub(super) use door::Peer;

/// How long a client may take to ask, and then to read its answer; one that follows, to read
/// anything at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much can wait for a client that follows; one that is slower is sent away.
const MOST_WAITING: usize = 1 << 20;

/// How many clients are attended to, how many are let in, and how much is read from each, before
/// the daemon looks after everything else again.
const MOST_AT_ONCE: usize = 64;
const PARTS_AT_ONCE: usize = 4;
const PART: usize = 1 << 16;

const LISTENER: u64 = 0;
const TIMER: u64 = 1;
const FIRST_CLIENT: u64 = 2;

/// The clients that were not answered, of all sockets; a clone counts on.
#[derive(Clone, Default)]
pub(super) struct TurnedAway {
    /// They had no right to ask.
    pub(super) refused: Rc<Cell<u64>>,
    /// They were slow, or too many.
    pub(super) dropped: Rc<Cell<u64>>,
}

/// Counts one more.
pub(super) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// What there is for a client, and whether more follows.
#[derive(Default)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) follows: bool,
    /// The client waits, and is no client here any more.
    pub(super) waits: Option<Wait>,
}

/// What is said to clients.
pub(super) trait Speaker {
    /// The answer to what was heard, of which all from `new` on came last. `None`: there is more to
    /// come.
    fn answer(&mut self, peer: Peer, heard: &[u8], new: usize) -> Option<Reply>;

    /// What those are told who are too many.
    fn too_many(&self) -> Reply;
}

struct Client {
    stream: OwnedFd,
    peer: Peer,
    heard: Vec<u8>,
    waiting: Vec<u8>,
    follows: bool,
    answered: bool,
    /// When its time is over; `None`: it follows, and has read all there is.
    deadline: Option<Instant>,
}

/// The listening end and its clients; a socket's file goes when it is dropped.
pub(super) struct Clients {
    listener: Listener,
    epoll: Epoll,
    timer: Alarm,
    clients: BTreeMap<u64, Client>,
    next: u64,
    turned_away: TurnedAway,
    waiting: Vec<(OwnedFd, Peer, Wait)>,
    /// Why only root can connect.
    closed: Option<String>,
}

impl Clients {
    /// Listens at `path`, for root and the group `readers`. The caller is the only daemon, so a
    /// socket that stands there is left over from one that died.
    pub(super) fn at_path(
        path: &Path,
        readers: Option<Gid>,
        turned_away: TurnedAway,
    ) -> Result<Self> {
        let (listener, given) = Listener::at_path(path, readers)?;
        Ok(Self {
            closed: given.err().map(|error| {
                format!(
                    "cannot give {} to their group: {error}; SupplementaryGroups= of a unit \
                     allows it",
                    path.display()
                )
            }),
            ..Self::new(listener, turned_away)?
        })
    }

    /// Listens at a port, for anybody who can reach it.
    pub(super) fn at_port(address: SocketAddr, turned_away: TurnedAway) -> Result<Self> {
        Self::new(Listener::at_port(address)?, turned_away)
    }

    fn new(listener: Listener, turned_away: TurnedAway) -> Result<Self> {
        let clients = Self {
            listener,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            timer: Alarm::new(ClockId::CLOCK_MONOTONIC)?,
            clients: BTreeMap::new(),
            next: FIRST_CLIENT,
            turned_away,
            waiting: Vec::new(),
            closed: None,
        };
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        clients.epoll.add(&clients.listener, readable(LISTENER))?;
        clients.epoll.add(&clients.timer, readable(TIMER))?;
        Ok(clients)
    }

    /// Does what there is to do for clients, without waiting.
    ///
    /// # Errors
    ///
    /// The kernel's own means failed: a client cannot bring that about.
    pub(super) fn serve(&mut self, speaker: &mut impl Speaker) -> Result<()> {
        let mut ready = [EpollEvent::empty(); MOST_AT_ONCE];
        let count = self.epoll.wait(&mut ready, EpollTimeout::ZERO).unwrap_or(0);
        for event in &ready[..count] {
            match event.data() {
                LISTENER => self.accept(speaker)?,
                TIMER => _ = self.timer.quiet(),
                number => self.attend(number, speaker)?,
            }
        }
        let now = Instant::now();
        let late = |client: &Client| client.deadline.is_some_and(|deadline| deadline <= now);
        let gone = self.clients.iter().filter(|(_, client)| late(client));
        for number in gone.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.send_away(number)?;
        }
        self.set_timer(now)
    }

    /// Why those who may read cannot connect.
    pub(super) fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    /// Whether anybody follows.
    pub(super) fn is_followed(&self) -> bool {
        self.clients.values().any(|client| client.follows)
    }

    /// Tells those who follow; who has left too much unread is told `end` instead, and nothing more.
    pub(super) fn tell(&mut self, what: &[u8], end: &[u8]) -> Result<()> {
        for client in self.clients.values_mut().filter(|client| client.follows) {
            client.waiting.extend(what);
            if client.waiting.len() > MOST_WAITING {
                count(&self.turned_away.dropped);
                client.follows = false;
                client.waiting.extend(end);
            }
        }
        let waiting = self
            .clients
            .iter()
            .filter(|(_, client)| !client.waiting.is_empty());
        for number in waiting.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.send(number)?;
        }
        self.set_timer(Instant::now())
    }

    /// Lets in those who wait at the door.
    fn accept(&mut self, speaker: &impl Speaker) -> Result<()> {
        for _ in 0..MOST_AT_ONCE {
            // A client that went away meanwhile is none.
            let Ok((stream, peer)) = self.listener.accept() else {
                return Ok(());
            };
            if !self.make_room(peer)? {
                count(&self.turned_away.dropped);
                let _ = send(
                    stream.as_raw_fd(),
                    &speaker.too_many().bytes,
                    MsgFlags::MSG_NOSIGNAL,
                );
                continue;
            }
            self.epoll
                .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
            let client = Client {
                stream,
                peer,
                heard: Vec::new(),
                waiting: Vec::new(),
                follows: false,
                answered: false,
                deadline: Some(Instant::now() + PATIENCE),
            };
            self.clients.insert(self.next, client);
            self.next += 1;
        }
        Ok(())
    }

    /// Sends away who has been silent longest, of those in whose room there is no place for this
    /// one, or else who has been reading its answer longest. Those who follow stay: then there is
    /// no room.
    fn make_room(&mut self, peer: Peer) -> Result<bool> {
        let (most_alone, most_of_kind) = peer.most();
        let same = |client: &Client| client.peer == peer;
        let kind = |client: &Client| client.peer.is_kind_of(peer);
        let of = |who: &dyn Fn(&Client) -> bool| self.clients.values().filter(|c| who(c)).count();
        let full: &dyn Fn(&Client) -> bool = if of(&same) >= most_alone {
            &same
        } else if of(&kind) >= most_of_kind {
            &kind
        } else {
            return Ok(true);
        };
        let one = |answered: bool| {
            let mut all = self.clients.iter();
            all.find(|(_, client)| full(client) && !client.follows && client.answered == answered)
        };
        let Some(number) = one(false).or_else(|| one(true)).map(|(number, _)| *number) else {
            return Ok(false);
        };
        self.send_away(number)?;
        Ok(true)
    }

    /// Reads from a client, or writes to it.
    fn attend(&mut self, number: u64, speaker: &mut impl Speaker) -> Result<()> {
        let Some(client) = self.clients.get_mut(&number) else {
            return Ok(());
        };
        if client.answered {
            // It has nothing more to say: what can be read is its end.
            let gone = client.waiting.is_empty() && hear(client) != Heard::Nothing;
            return if gone {
                self.dismiss(number)
            } else {
                self.send(number)
            };
        }
        for _ in 0..PARTS_AT_ONCE {
            let new = client.heard.len();
            match hear(client) {
                Heard::Nothing => return Ok(()),
                Heard::End => return self.dismiss(number),
                Heard::More => {}
            }
            if let Some(reply) = speaker.answer(client.peer, &client.heard, new) {
                if let Some(wait) = reply.waits {
                    return self.hand_over(number, wait);
                }
                client.answered = true;
                client.heard = Vec::new();
                client.waiting = reply.bytes;
                client.follows = reply.follows;
                client.deadline = Some(Instant::now() + PATIENCE);
                return self.send(number);
            }
        }
        Ok(())
    }

    /// Sends a client what it takes of what waits for it; one that has all and does not follow is
    /// done.
    fn send(&mut self, number: u64) -> Result<()> {
        let Some(client) = self.clients.get_mut(&number) else {
            return Ok(());
        };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let sent = match send(client.stream.as_raw_fd(), &client.waiting, flags) {
            Ok(sent) => sent,
            Err(errno) if is_passing(errno) => 0,
            Err(_) => return self.dismiss(number),
        };
        client.waiting.drain(..sent);
        if client.waiting.is_empty() && !client.follows {
            return self.dismiss(number);
        }
        let mut flags = EpollFlags::EPOLLIN;
        if client.waiting.is_empty() {
            client.deadline = None;
        } else {
            flags = EpollFlags::EPOLLOUT;
            if client.deadline.is_none() || (client.follows && sent > 0) {
                client.deadline = Some(Instant::now() + PATIENCE);
            }
        }
        let mut event = EpollEvent::new(flags, number);
        Ok(self.epoll.modify(&client.stream, &mut event)?)
    }

    fn send_away(&mut self, number: u64) -> Result<()> {
        count(&self.turned_away.dropped);
        self.dismiss(number)
    }

    fn dismiss(&mut self, number: u64) -> Result<()> {
        if let Some(client) = self.clients.remove(&number) {
            self.epoll.delete(&client.stream)?;
        }
        Ok(())
    }

    fn hand_over(&mut self, number: u64, wait: Wait) -> Result<()> {
        if let Some(client) = self.clients.remove(&number) {
            self.epoll.delete(&client.stream)?;
            self.waiting.push((client.stream, client.peer, wait));
        }
        Ok(())
    }

    /// Those that wait, since this was asked last.
    pub(super) fn take_waiting(&mut self) -> Vec<(OwnedFd, Peer, Wait)> {
        mem::take(&mut self.waiting)
    }

    /// Wakes up when the next client's time is over, and not at all if there is none.
    fn set_timer(&mut self, now: Instant) -> Result<()> {
        let deadlines = self.clients.values().filter_map(|client| client.deadline);
        let wait = |next: Instant| next.saturating_duration_since(now) + Duration::from_millis(1);
        self.timer.once(deadlines.min().map(wait))
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.clients.len()
    }

    /// Lets everybody's time be over.
    #[cfg(test)]
    pub(super) fn end_patience(&mut self) {
        for client in self.clients.values_mut() {
            client.deadline = Some(Instant::now());
        }
    }
}

impl AsFd for Clients {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

#[derive(PartialEq)]
enum Heard {
    Nothing,
    /// The client is gone.
    End,
    More,
}

fn hear(client: &mut Client) -> Heard {
    let mut part = [0; PART];
    match recv(client.stream.as_raw_fd(), &mut part, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Heard::End,
        Ok(len) => {
            client.heard.extend(&part[..len]);
            Heard::More
        }
        Err(errno) if is_passing(errno) => Heard::Nothing,
        Err(_) => Heard::End,
    }
}

fn is_passing(errno: Errno) -> bool {
    matches!(errno, Errno::EAGAIN | Errno::EINTR)
}

#[cfg(test)]
mod tests;
