// SPDX-License-Identifier: GPL-2.0-only
//! The lines that wait for a sink, and the thread that writes them.
//!
//! A write to a regular file cannot be told not to wait for its disk, and the audit lets its
//! senders sleep while its backlog is full (kernel/audit.c); hence a thread.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use crate::report::Sink;

/// How many bytes of lines may wait for a sink; those that find no room are lost.
const MOST_WAITING: usize = 1 << 20;

/// The stack of a thread, which only writes.
const STACK: usize = 64 << 10;

/// Where lines go.
pub(super) trait Destination: Send {
    /// Takes a record; this may take its time.
    fn write(&mut self, record: &[u8]) -> io::Result<()>;

    /// The records that were taken and turned out not to have arrived; they are tried again.
    fn returned(&self) -> u64 {
        0
    }

    /// What it writes to was renamed.
    fn reopen(&mut self) {}
}

/// Lines on their way to a sink.
pub(super) struct Queue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// There is something to do.
    work: Condvar,
    /// Something was done.
    done: Condvar,
}

#[derive(Default)]
struct State {
    /// Until the thread runs.
    destination: Option<Box<dyn Destination>>,
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// One more is being written.
    in_hand: bool,
    reopen: bool,
    ends: bool,
    written: u64,
    returned: u64,
    lost: u64,
    error: Option<String>,
}

impl State {
    fn lose(&mut self, error: String) {
        self.lost += 1;
        self.error = Some(error);
    }

    fn unwritten(&self) -> u64 {
        self.waiting.len() as u64 + u64::from(self.in_hand) + self.returned
    }
}

impl Queue {
    /// An empty one, without a thread before its first line: so a thread never has more rights
    /// than the daemon kept.
    pub(super) fn new(destination: Box<dyn Destination>) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                destination: Some(destination),
                ..State::default()
            }),
            work: Condvar::new(),
            done: Condvar::new(),
        }))
    }

    /// Lets a record be written, or counts it as lost.
    pub(super) fn send(&self, record: Vec<u8>) {
        let mut state = self.0.lock();
        if state.bytes + record.len() > MOST_WAITING {
            let lines = state.waiting.len();
            return state.lose(format!("{lines} lines wait already"));
        }
        if state.destination.is_some() {
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("log".into()).stack_size(STACK);
            match thread.spawn(move || shared.serve()) {
                Ok(_) => {}
                Err(error) => return state.lose(format!("cannot start a thread: {error}")),
            }
        }
        state.bytes += record.len();
        state.waiting.push_back(record);
        self.0.work.notify_one();
    }

    /// Lets the sink open anew what it writes to.
    pub(super) fn reopen(&self) {
        self.0.lock().reopen = true;
        self.0.work.notify_one();
    }

    /// Lets the thread end once there is nothing more to write.
    pub(super) fn end(&self) {
        self.0.lock().ends = true;
        self.0.work.notify_one();
    }

    /// Waits until all is written, or that time has come; how many lines are not written.
    pub(super) fn finish(&self, deadline: Instant) -> u64 {
        let left = deadline.saturating_duration_since(Instant::now());
        let state = self.0.lock();
        let pending = |state: &mut State| state.in_hand || !state.waiting.is_empty();
        let waited = self.0.done.wait_timeout_while(state, left, pending);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.unwritten()
    }

    /// What became of the lines so far; without a name and a place.
    pub(super) fn counts(&self) -> Sink {
        let state = self.0.lock();
        Sink {
            written: state.written - state.returned,
            lost: state.lost,
            waiting: state.unwritten(),
            error: state.error.clone(),
            ..Sink::default()
        }
    }
}

impl Shared {
    /// It holds for moments only, never while something is written.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        let mut state = self.lock();
        let Some(mut destination) = state.destination.take() else {
            return;
        };
        loop {
            if mem::take(&mut state.reopen) {
                drop(state);
                destination.reopen();
                state = self.lock();
            } else if let Some(record) = state.waiting.pop_front() {
                state.bytes -= record.len();
                state.in_hand = true;
                drop(state);
                let result = destination.write(&record);
                state = self.lock();
                state.in_hand = false;
                state.returned = destination.returned();
                match result {
                    Ok(()) => state.written += 1,
                    Err(error) => state.lose(error.to_string()),
                }
                self.done.notify_all();
            } else if state.ends {
                return;
            } else {
                let woken = self.work.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

#[cfg(test)]
mod tests;
