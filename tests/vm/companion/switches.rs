// SPDX-License-Identifier: GPL-2.0-only
//! The log of every switch, read and replayed as it comes.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{OpenObject, RingBuffer, RingBufferBuilder};
use nix::time::{ClockId, clock_gettime};

use super::replay::{Account, Event, Kind, Replay, Task};
use crate::machine::{cores, cpus, visit};
use crate::skel::switches::{SwitchesSkel, SwitchesSkelBuilder};

/// `enum what` of `switches.bpf.c`.
const SWITCH: u32 = 1;
const SLEEP: u32 = 2;
const WAKE: u32 = 3;

/// `enum kind` of `switches.bpf.c`.
const REAL_TIME: u32 = 2;
const KERNEL: u32 = 3;

/// How much later than others a record may come that is older: the guest's CPUs run in turns.
const ORDER: Duration = Duration::from_secs(1);

/// How often the log is read.
const OFTEN: Duration = Duration::from_millis(50);

/// Ordered by time, then by arrival.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    time: u64,
    number: u64,
    bytes: [u8; 32],
}

impl Record {
    /// What the rest of `struct record` says, in the order of its fields.
    fn event(&self) -> Option<Event> {
        let (allowed, rest) = self.bytes.split_first_chunk()?;
        let mut words = rest
            .chunks_exact(4)
            .map(|word| word.try_into().map(u32::from_ne_bytes));
        let mut word = || words.next()?.ok();
        let (tid, pid, what) = (word()? as i32, word()? as i32, word()?);
        let kind = match word()? {
            REAL_TIME => Kind::RealTime,
            KERNEL => Kind::Kernel,
            _ => Kind::User,
        };
        let next = Task {
            tid,
            pid,
            kind,
            allowed: u64::from_ne_bytes(*allowed),
        };
        let cpu = word()? as usize;
        match what {
            SWITCH | SLEEP => Some(Event::Switch {
                cpu,
                next,
                sleeps: what == SLEEP,
            }),
            WAKE => Some(Event::Wake(tid)),
            _ => None,
        }
    }
}

/// The records that wait for older ones.
#[derive(Default)]
struct Waiting {
    heap: BinaryHeap<Reverse<Record>>,
    count: u64,
}

impl Waiting {
    fn take_in(&mut self, bytes: &[u8]) {
        let Some((time, rest)) = bytes.split_first_chunk() else {
            return;
        };
        let Some((bytes, _)) = rest.split_first_chunk() else {
            return;
        };
        self.heap.push(Reverse(Record {
            time: u64::from_ne_bytes(*time),
            number: self.count,
            bytes: *bytes,
        }));
        self.count += 1;
    }

    /// The oldest record, if it is from before this time.
    fn before(&mut self, time: u64) -> Option<Record> {
        let Reverse(oldest) = self.heap.peek()?;
        if oldest.time >= time {
            return None;
        }
        self.heap.pop().map(|Reverse(record)| record)
    }
}

/// A running log.
pub(crate) struct Switches<'obj> {
    skel: SwitchesSkel<'obj>,
    ring: RingBuffer<'obj>,
    waiting: Rc<RefCell<Waiting>>,
    replay: Replay,
    /// Until when the log was replayed, in nanoseconds.
    seen: u64,
}

impl<'obj> Switches<'obj> {
    /// Starts to log, and learns what each CPU runs.
    pub(crate) fn start(storage: &'obj mut MaybeUninit<OpenObject>) -> Result<Self> {
        let mut skel = SwitchesSkelBuilder::default()
            .open(storage)?
            .load()
            .context("the log of switches")?;
        skel.attach().context("the log of switches")?;
        let waiting = Rc::new(RefCell::new(Waiting::default()));
        let mut builder = RingBufferBuilder::new();
        let sink = Rc::clone(&waiting);
        builder.add(&skel.maps.records, move |bytes| {
            sink.borrow_mut().take_in(bytes);
            0
        })?;
        let ring = builder.build()?;
        visit(&cpus()?)?;
        Ok(Self {
            skel,
            ring,
            waiting,
            replay: Replay::new(cores()?.into_iter().map(|core| core.cpus)),
            seen: 0,
        })
    }

    /// Takes this process for a holder of cores.
    pub(crate) fn hold(&mut self, pid: u32) {
        self.replay.hold(pid as i32);
    }

    /// What became of each holder in this time from now on.
    pub(crate) fn watch(&mut self, time: Duration) -> Result<Vec<Account>> {
        let begin = self.begin()?;
        self.end(begin + time.as_nanos() as u64)
    }

    /// The same from now on until both this time is over and that is done, and what came of that.
    pub(crate) fn watch_until<T>(
        &mut self,
        time: Duration,
        done: impl FnOnce() -> Result<T>,
    ) -> Result<(Vec<Account>, T)> {
        let begin = self.begin()?;
        self.read_until(begin + time.as_nanos() as u64)?;
        let value = done()?;
        Ok((self.end(now()?)?, value))
    }

    fn begin(&mut self) -> Result<u64> {
        let begin = now()?;
        self.read_until(begin)?;
        self.replay.close(begin);
        Ok(begin)
    }

    fn end(&mut self, end: u64) -> Result<Vec<Account>> {
        self.read_until(end)?;
        Ok(self.replay.close(end))
    }

    /// Replays all that happened before this time.
    fn read_until(&mut self, end: u64) -> Result<()> {
        while self.seen < end {
            std::thread::sleep(OFTEN);
            let certain = now()? - ORDER.as_nanos() as u64;
            self.ring.consume()?;
            let lost = self.skel.maps.bss_data.as_ref().context("no bss")?.lost;
            ensure!(lost == 0, "the log of switches lost {lost} records");
            self.replay_until(certain.min(end))?;
        }
        Ok(())
    }

    fn replay_until(&mut self, time: u64) -> Result<()> {
        while let Some(record) = self.waiting.borrow_mut().before(time) {
            let late = self.seen.saturating_sub(record.time);
            ensure!(late == 0, "a record came {late} ns too late");
            let event = record.event().context("a record of no known form")?;
            self.replay.see(record.time, event);
        }
        self.seen = time;
        Ok(())
    }
}

/// The clock of the log, in nanoseconds.
fn now() -> Result<u64> {
    let time = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    Ok(time.as_nanos() as u64)
}
