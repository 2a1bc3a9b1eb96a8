// SPDX-License-Identifier: GPL-2.0-only
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::errno::Errno;

use super::*;

/// Longer than any test takes.
fn late() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

/// Takes a record when it is told what to answer.
struct Held {
    answers: Receiver<io::Result<()>>,
    records: Sender<Vec<u8>>,
}

impl Destination for Held {
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        self.records.send(record.into()).unwrap();
        self.answers.recv().unwrap()
    }

    fn reopen(&mut self) {
        self.records.send(b"reopened".into()).unwrap();
    }
}

fn held() -> (Queue, Sender<io::Result<()>>, Receiver<Vec<u8>>) {
    let (answer, answers) = channel();
    let (records, taken) = channel();
    let queue = Queue::new(Box::new(Held { answers, records }));
    (queue, answer, taken)
}

fn numbers(queue: &Queue) -> (u64, u64, u64) {
    let counts = queue.counts();
    (counts.written, counts.lost, counts.waiting)
}

#[test]
fn a_sink_that_hangs_holds_nobody_up_and_loses_nothing_uncounted() {
    let (queue, answer, taken) = held();
    let record = vec![b'x'; 1000];
    let fit = MOST_WAITING / record.len();
    queue.send(record.clone());
    taken.recv().unwrap();
    // One is in the hands of the sink.
    for _ in 0..fit + 5 {
        queue.send(record.clone());
    }
    assert_eq!(numbers(&queue), (0, 5, fit as u64 + 1));
    let error = queue.counts().error.unwrap();
    assert!(error.contains("wait already"), "{error}");
    assert_eq!(queue.finish(Instant::now()), fit as u64 + 1);

    for _ in 0..fit {
        answer.send(Ok(())).unwrap();
    }
    answer.send(Err(io::Error::from(Errno::ENOSPC))).unwrap();
    assert_eq!(queue.finish(late()), 0);
    assert_eq!(numbers(&queue), (fit as u64, 6, 0));
    let error = queue.counts().error.unwrap();
    assert!(error.contains("No space left"), "{error}");
}

#[test]
fn the_order_is_kept_and_the_end_waits_for_the_last_line() {
    let (queue, answer, taken) = held();
    queue.send(b"one".into());
    queue.send(b"two".into());
    assert_eq!(taken.recv().unwrap(), b"one");
    queue.reopen();
    queue.end();
    answer.send(Ok(())).unwrap();
    answer.send(Ok(())).unwrap();
    // What was renamed is reopened before another line is written to it.
    assert_eq!(taken.recv().unwrap(), b"reopened");
    assert_eq!(taken.recv().unwrap(), b"two");
    // The thread has ended.
    assert!(taken.recv().is_err());
    assert_eq!(numbers(&queue), (2, 0, 0));
}

#[test]
fn there_is_no_thread_before_the_first_line() {
    let (queue, _answer, _taken) = held();
    queue.reopen();
    assert!(queue.0.lock().destination.is_some());
    queue.send(b"one".into());
    while queue.0.lock().destination.is_some() {}
}
