// SPDX-License-Identifier: GPL-2.0-only
//! The control socket: clients that ask, and are answered; see [`super::protocol`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::Result;
use nix::unistd::Gid;
use serde::Serialize;

use super::clients::{Clients, Peer, Reply, Speaker, TurnedAway, count};
use super::protocol::{Answer, MAX_QUESTION, Question, Refusal, Wait};
use crate::report::Event;

/// Where the daemon listens. Root may change what holds, and the group [`READERS`] may read.
pub(super) const SOCKET: &str = "/run/coregate/control.sock";

/// The group of those who may read.
pub(super) const READERS: &str = "coregate";

/// The longest question of who may only read, in bytes.
const MAX_READERS_QUESTION: usize = 4096;

impl Reply {
    /// One answer, or a refusal.
    pub(super) fn one(answer: Result<impl Serialize, Refusal>) -> Self {
        let mut bytes = Vec::new();
        put(
            &mut bytes,
            &match answer {
                Ok(answer) => Answer::Answer(answer),
                Err(refusal) => Answer::Error(refusal),
            },
        );
        Self {
            bytes,
            ..Self::default()
        }
    }

    /// These events, and with `follows` those that come.
    pub(super) fn events<'e>(events: impl Iterator<Item = &'e Event>, follows: bool) -> Self {
        let mut bytes = Vec::new();
        events.for_each(|event| put(&mut bytes, &Answer::Answer(event)));
        Self {
            bytes,
            follows,
            ..Self::default()
        }
    }

    pub(super) fn refusal(why: impl Into<String>) -> Self {
        Self::one(Err::<(), _>(Refusal::failed(why)))
    }
}

pub(super) fn put(lines: &mut Vec<u8>, line: &impl Serialize) {
    // There is no key that is not a string, and writing to memory does not fail.
    if serde_json::to_writer(&mut *lines, line).is_ok() {
        lines.push(b'\n');
    }
}

/// The control socket and its clients.
pub(super) struct Control {
    clients: Clients,
    turned_away: TurnedAway,
}

impl Control {
    /// Listens at `path`, for root and the group `readers`.
    pub(super) fn bind(path: &Path, readers: Option<Gid>, turned_away: TurnedAway) -> Result<Self> {
        let clients = Clients::at_path(path, readers, turned_away.clone())?;
        Ok(Self {
            clients,
            turned_away,
        })
    }

    /// Why those who may read cannot, though there are some.
    pub(super) fn closed(&self) -> Option<&str> {
        self.clients.closed()
    }

    /// Does what there is to do for clients, without waiting; `answer` answers a question.
    ///
    /// # Errors
    ///
    /// The kernel's own means failed: a client cannot bring that about.
    pub(super) fn serve(&mut self, answer: impl FnMut(Question) -> Reply) -> Result<()> {
        let turned_away = &self.turned_away;
        self.clients.serve(&mut Questions {
            answer,
            turned_away,
        })
    }

    /// Those that wait, since this was asked last.
    pub(super) fn take_waiting(&mut self) -> Vec<(OwnedFd, Peer, Wait)> {
        self.clients.take_waiting()
    }

    /// Tells an event to the clients that follow them.
    pub(super) fn tell(&mut self, event: &Event) -> Result<()> {
        if !self.clients.is_followed() {
            return Ok(());
        }
        let mut line = Vec::new();
        put(&mut line, &Answer::Answer(event));
        let end = Reply::refusal(
            "events came faster than they were read, and the rest is left out; \
             'coregate events' shows what is remembered",
        );
        self.clients.tell(&line, &end.bytes)
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.clients.as_fd()
    }
}

/// Who answers questions.
struct Questions<'a, F> {
    answer: F,
    turned_away: &'a TurnedAway,
}

impl<F: FnMut(Question) -> Reply> Speaker for Questions<'_, F> {
    fn answer(&mut self, peer: Peer, heard: &[u8], new: usize) -> Option<Reply> {
        let most = match peer {
            Peer::Root => MAX_QUESTION,
            _ => MAX_READERS_QUESTION,
        };
        let end = heard[new..].iter().position(|byte| *byte == b'\n');
        let length = end.map_or(heard.len(), |end| new + end);
        if length > most {
            return Some(unknown(&format!("longer than {most} bytes")));
        }
        end?;
        let question = match serde_json::from_slice(&heard[..length]) {
            Ok(question) => question,
            Err(error) => return Some(unknown(&error.to_string())),
        };
        let denied = match peer {
            Peer::Root => None,
            Peer::Reader(_) => changes(&question).then(|| {
                format!(
                    "only root may change what holds, and members of the group {READERS} may \
                     only read; try with sudo"
                )
            }),
            Peer::Stranger(_) | Peer::Anybody => Some(format!(
                "only root and members of the group {READERS} may ask the daemon; try with sudo"
            )),
        };
        Some(match denied {
            None => (self.answer)(question),
            Some(why) => {
                count(&self.turned_away.refused);
                Reply::refusal(why)
            }
        })
    }

    fn too_many(&self) -> Reply {
        Reply::refusal("too many clients follow the events; end one of them")
    }
}

/// Whether more is asked for than to read.
fn changes(question: &Question) -> bool {
    match question {
        Question::Status
        | Question::Cores
        | Question::Denials { .. }
        | Question::Events { .. }
        | Question::Holders
        | Question::Wait(_) => false,
        Question::Reload
        | Question::Rehearse { .. }
        | Question::Promote
        | Question::Drop
        | Question::Order { .. } => true,
    }
}

fn unknown(why: &str) -> Reply {
    Reply::refusal(format!("this is no question that the daemon knows: {why}"))
}

#[cfg(test)]
mod tests;
