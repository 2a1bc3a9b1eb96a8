// SPDX-License-Identifier: GPL-2.0-only
//! The truth about idleness: what each CPU really ran while an exec was in the hook, from
//! a log of every switch. No code is shared with the gate.
//!
//! Between the moment at which a task is woken and the one at which it runs, it is on its
//! way to some CPU, and that CPU may rightly be called free or busy. So the truth is a
//! range; it is one number when nothing was on its way.

use std::cell::RefCell;
use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{OpenObject, RingBuffer, RingBufferBuilder};

use crate::machine::{Core, cpus, pin};
use crate::skel::oracle::{OracleSkel, OracleSkelBuilder};

/// `enum kind` of `oracle.bpf.c`.
const SWITCH: u32 = 1;
const WAKE: u32 = 2;
const ENTER: u32 = 3;
const LEAVE: u32 = 4;

#[derive(Clone, Copy)]
struct Record {
    kind: u32,
    cpu: u32,
    pid: i32,
    what: i32,
}

impl Record {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |i: usize| {
            Some(u32::from_ne_bytes(
                bytes.get(i * 4..i * 4 + 4)?.try_into().ok()?,
            ))
        };
        Some(Self {
            kind: word(0)?,
            cpu: word(1)?,
            pid: word(2)? as i32,
            what: word(3)? as i32,
        })
    }
}

/// What was true while one exec was in the hook.
#[derive(Debug)]
pub(crate) struct Truth {
    /// The fewest and the most cores that could be called free, of those asked for.
    pub(crate) free: std::ops::RangeInclusive<u32>,
    /// What all LSMs together answered: 0 or an errno, negative.
    pub(crate) answer: i32,
}

/// A running log.
pub(crate) struct Oracle<'obj> {
    skel: OracleSkel<'obj>,
    ring: RingBuffer<'obj>,
    records: Rc<RefCell<Vec<Record>>>,
    /// By CPU: the pid it runs; `None` until its first switch.
    running: Vec<Option<i32>>,
    /// The tasks that were woken and do not run yet.
    on_their_way: HashSet<i32>,
}

impl<'obj> Oracle<'obj> {
    /// Starts to log, and learns what each CPU runs.
    pub(crate) fn start(storage: &'obj mut MaybeUninit<OpenObject>) -> Result<Self> {
        let mut skel = OracleSkelBuilder::default()
            .open(storage)?
            .load()
            .context("the oracle")?;
        skel.attach().context("the oracle")?;
        let records = Rc::new(RefCell::new(Vec::new()));
        let mut builder = RingBufferBuilder::new();
        let sink = Rc::clone(&records);
        builder.add(&skel.maps.records, move |bytes| {
            sink.borrow_mut().extend(Record::parse(bytes));
            0
        })?;
        let ring = builder.build()?;
        let cpus = cpus()?;
        let count = cpus.iter().max().map_or(0, |max| *max as usize + 1);
        let oracle = Self {
            skel,
            ring,
            records,
            running: vec![None; count],
            on_their_way: HashSet::new(),
        };
        for cpu in cpus {
            std::thread::spawn(move || {
                pin(&[cpu])?;
                std::thread::sleep(Duration::from_millis(1));
                anyhow::Ok(())
            })
            .join()
            .ok()
            .context("a thread did not end")??;
        }
        Ok(oracle)
    }

    /// The truth about `cores` for each exec by process `pid` since the last call.
    pub(crate) fn truths(&mut self, cores: &[Core], pid: i32) -> Result<Vec<Truth>> {
        self.ring.consume()?;
        let lost = self.skel.maps.bss_data.as_ref().context("no bss")?.lost;
        ensure!(lost == 0, "the oracle lost {lost} records");
        let records = std::mem::take(&mut *self.records.borrow_mut());
        let mut truths = Vec::new();
        let mut open: Option<Window> = None;
        for record in records {
            match record.kind {
                SWITCH => {
                    self.on_their_way.remove(&record.pid);
                    self.running[record.cpu as usize] = Some(record.pid);
                }
                WAKE => {
                    // Who runs already is not on its way.
                    if !self.running.contains(&Some(record.pid)) {
                        self.on_their_way.insert(record.pid);
                    }
                }
                ENTER if record.pid == pid => open = Some(Window::new(cores.len())),
                LEAVE if record.pid == pid => {
                    if let Some(window) = open.take() {
                        truths.push(window.truth(record));
                    }
                }
                _ => {}
            }
            if let Some(window) = &mut open {
                window.see(cores, &self.running, self.on_their_way.len());
            }
        }
        Ok(truths)
    }
}

/// From the entry of an exec into the hook to its exit.
struct Window {
    /// By core: idle at every moment, and at some moment.
    always: Vec<bool>,
    once: Vec<bool>,
    on_their_way: usize,
}

impl Window {
    fn new(cores: usize) -> Self {
        Self {
            always: vec![true; cores],
            once: vec![false; cores],
            on_their_way: 0,
        }
    }

    fn see(&mut self, cores: &[Core], running: &[Option<i32>], on_their_way: usize) {
        for (i, core) in cores.iter().enumerate() {
            let idle = core
                .cpus
                .iter()
                .all(|&cpu| running[cpu as usize] == Some(0));
            self.always[i] &= idle;
            self.once[i] |= idle;
        }
        self.on_their_way = self.on_their_way.max(on_their_way);
    }

    fn truth(&self, leave: Record) -> Truth {
        let count = |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as u32;
        let least = count(&self.always).saturating_sub(self.on_their_way as u32);
        Truth {
            free: least..=count(&self.once),
            answer: leave.what,
        }
    }
}
