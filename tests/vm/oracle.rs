// SPDX-License-Identifier: GPL-2.0-only
//! The truth about idleness: what each CPU really ran while an exec was in the hook, from
//! a log of every switch. No code is shared with the gate.
//!
//! Between the moment at which a task is woken and the one at which it runs, it is on its
//! way to some CPU, and that CPU may rightly be called free or busy. A CPU whose task went to
//! sleep is idle a moment before the switch is logged, and that moment can be long, as the
//! guest's CPUs run in turns. So the truth is a range; it is one number when nothing was on
//! its way.

pub(crate) mod room;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{OpenObject, RingBuffer, RingBufferBuilder};

use crate::machine::{Core, cpus, visit};
use crate::skel::oracle::{OracleSkel, OracleSkelBuilder};

/// `enum kind` of `oracle.bpf.c`.
const SWITCH: u32 = 1;
const WAKE: u32 = 2;
const ENTER: u32 = 3;
const LEAVE: u32 = 4;
const PREEMPT: u32 = 5;

/// How long before its CPU leaves it a task may be woken for elsewhere, in nanoseconds: the
/// waker waits for the CPU.
const LEAVING: u64 = 5_000_000;

/// How long it takes at most, in nanoseconds, until a task that was woken runs on the CPU that
/// is idle for it. One that waits longer waits on a busy CPU, or went to sleep after all.
const ARRIVING: u64 = 50_000_000;

/// How long a task that waits for its turn is believed to, in nanoseconds: it may have gone
/// elsewhere without a word.
const WAITING: u64 = 1_000_000_000;

#[derive(Clone, Copy)]
struct Record {
    time: u64,
    kind: u32,
    cpu: u32,
    pid: i32,
    /// See `enum kind` of `oracle.bpf.c`; of a switch, the pid that ran before.
    what: i32,
}

impl Record {
    /// The fields of `struct record`, in the order of their bytes.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (time, rest) = bytes.split_first_chunk()?;
        let mut words = rest
            .chunks_exact(4)
            .map(|word| word.try_into().map(u32::from_ne_bytes));
        let mut word = || words.next()?.ok();
        Some(Self {
            time: u64::from_ne_bytes(*time),
            kind: word()?,
            cpu: word()?,
            pid: word()? as i32,
            what: word()? as i32,
        })
    }
}

/// What all CPUs did at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moment {
    /// By CPU: the pid it runs, 0 if it is idle; `None` until its first switch.
    pub(crate) running: Vec<Option<i32>>,
    /// The CPUs that some task is on its way to.
    pub(crate) aims: BTreeSet<usize>,
    /// The tasks on their way to whichever CPU.
    pub(crate) on_their_way: usize,
    /// The tasks that wait for their turn, and on which CPU, if that is known.
    pub(crate) waiting: Vec<(i32, Option<usize>)>,
}

/// What was true while one exec was in the hook.
#[derive(Debug)]
pub(crate) struct Truth {
    /// All moments of it.
    pub(crate) moments: Vec<Moment>,
    /// The CPUs whose switch to idle was logged a little late.
    pub(crate) soon_idle: BTreeSet<usize>,
    /// What all LSMs together answered: 0 or an errno, negative.
    pub(crate) answer: i32,
}

impl Truth {
    /// The fewest and the most of these cores that could be called free.
    pub(crate) fn free(&self, cores: &[Core]) -> std::ops::RangeInclusive<u32> {
        let count = |(i, moment): (usize, &Moment), may_be: bool| {
            let idle = |cpu: usize| {
                let runs_nothing = moment.running[cpu] == Some(0);
                if may_be {
                    runs_nothing || self.soon_idle.contains(&cpu) || self.is_leaving(i, cpu)
                } else {
                    let waits = moment.waiting.iter().any(|(_, on)| *on == Some(cpu));
                    runs_nothing && !moment.aims.contains(&cpu) && !waits
                }
            };
            let free = |core: &&Core| core.cpus.iter().all(|&cpu| idle(cpu as usize));
            cores.iter().filter(free).count()
        };
        let moments = || self.moments.iter().enumerate();
        // Whoever waits on whichever CPU may do so on one that seems idle, if that one had no turn
        // for long: QEMU runs one CPU at a time.
        let least = |(i, moment): (usize, &Moment)| {
            let somewhere = moment.waiting.iter().filter(|(_, on)| on.is_none()).count();
            count((i, moment), false).saturating_sub(moment.on_their_way + somewhere)
        };
        let least = moments().map(least).min();
        let most = moments().map(|moment| count(moment, true)).max();
        least.unwrap_or(0) as u32..=most.unwrap_or(0) as u32
    }

    /// Whether the next thing that a CPU did after a moment was to go idle: it can have been idle
    /// then, as a switch is logged a little after it (__schedule(), kernel/sched/core.c), and
    /// another CPU's in between.
    fn is_leaving(&self, moment: usize, cpu: usize) -> bool {
        let mut running = self.moments[moment..].iter().map(|m| m.running[cpu]);
        let now = running.next();
        running.find(|next| Some(*next) != now) == Some(Some(0))
    }
}

/// Where a task is on its way to, if that can be one CPU only, and since when.
#[derive(Clone, Copy)]
struct Way {
    to: Option<usize>,
    since: u64,
}

/// A running log.
pub(crate) struct Oracle<'obj> {
    skel: OracleSkel<'obj>,
    ring: RingBuffer<'obj>,
    records: Rc<RefCell<Vec<Record>>>,
    /// By CPU: the pid it runs; `None` until its first switch.
    running: Vec<Option<i32>>,
    /// The tasks that were woken and do not run yet, and the one CPU that they can run on,
    /// if it is one.
    on_their_way: HashMap<i32, Way>,
    /// The tasks that were woken while they ran, and when, in nanoseconds: whoever was just
    /// going to sleep is on its way again as soon as its CPU has left it.
    woken_early: HashMap<i32, u64>,
    /// The tasks that wait for their turn: on which CPU, if that is known, and since when.
    waiting: HashMap<i32, Way>,
    /// The execs since [`Oracle::forget`].
    windows: Vec<Window>,
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
            on_their_way: HashMap::new(),
            woken_early: HashMap::new(),
            waiting: HashMap::new(),
            windows: Vec::new(),
        };
        visit(&cpus)?;
        Ok(oracle)
    }

    /// Forgets the execs that were seen.
    pub(crate) fn forget(&mut self) -> Result<()> {
        self.truths(0, 0, Duration::ZERO)?;
        self.windows.clear();
        Ok(())
    }

    /// The truth about each exec by process `pid` since [`Oracle::forget`], until it left the hook
    /// or woke the process `reader`: what it tells that one is then decided. A CPU counts as idle,
    /// too, if its switch to idle was logged within `late` after that.
    pub(crate) fn truths(&mut self, pid: i32, reader: i32, late: Duration) -> Result<Vec<Truth>> {
        self.ring.consume()?;
        let lost = self.skel.maps.bss_data.as_ref().context("no bss")?.lost;
        ensure!(lost == 0, "the oracle lost {lost} records");
        let records = std::mem::take(&mut *self.records.borrow_mut());
        let mut windows = std::mem::take(&mut self.windows);
        for record in records {
            match record.kind {
                SWITCH | PREEMPT => {
                    self.waiting.remove(&record.pid);
                    self.waiting.remove(&record.what);
                    if record.kind == PREEMPT && record.what != 0 {
                        let way = Way {
                            to: Some(record.cpu as usize),
                            since: record.time,
                        };
                        self.waiting.insert(record.what, way);
                    }
                    self.on_their_way.remove(&record.pid);
                    self.woken_early.remove(&record.pid);
                    let woken = self.woken_early.remove(&record.what);
                    if woken.is_some_and(|woken| record.time < woken + LEAVING) {
                        let way = Way {
                            to: None,
                            since: record.time,
                        };
                        self.on_their_way.insert(record.what, way);
                    }
                    self.running[record.cpu as usize] = Some(record.pid);
                    windows
                        .iter_mut()
                        .for_each(|window| window.see_switch(record));
                }
                WAKE if record.pid == reader => {
                    if let Some(window) = windows.last_mut() {
                        window.decided.get_or_insert(record.time);
                    }
                }
                WAKE if self.running.contains(&Some(record.pid)) => {
                    self.woken_early.insert(record.pid, record.time);
                }
                WAKE => {
                    self.waiting.remove(&record.pid);
                    let way = Way {
                        to: usize::try_from(record.what).ok(),
                        since: record.time,
                    };
                    self.on_their_way.insert(record.pid, way);
                }
                ENTER if record.pid == pid => windows.push(Window::new(self.running.len())),
                LEAVE if record.pid == pid => {
                    if let Some(window) = windows.last_mut() {
                        window.decided.get_or_insert(record.time);
                        window.answer = Some(record.what);
                    }
                }
                _ => {}
            }
            if let Some(window) = windows.last_mut() {
                // Who does not arrive waits behind another one.
                self.waiting.extend(
                    self.on_their_way
                        .extract_if(|_, way| record.time >= way.since + ARRIVING),
                );
                self.waiting
                    .retain(|_, way| record.time < way.since + WAITING);
                window.see(&self.running, &self.on_their_way, &self.waiting);
            }
        }
        self.windows = windows;
        let truths = self.windows.iter().filter_map(|window| window.truth(late));
        Ok(truths.collect())
    }
}

/// From the entry of an exec into the hook to its verdict; then it waits for the switches that
/// were under way.
struct Window {
    moments: Vec<Moment>,
    /// By CPU: when it first switched after the verdict, in nanoseconds, and whether to idle.
    switched: Vec<Option<(u64, bool)>>,
    /// When the verdict was there, in nanoseconds.
    decided: Option<u64>,
    /// What the hook answered.
    answer: Option<i32>,
}

impl Window {
    fn new(cpus: usize) -> Self {
        Self {
            moments: Vec::new(),
            switched: vec![None; cpus],
            decided: None,
            answer: None,
        }
    }

    fn see(
        &mut self,
        running: &[Option<i32>],
        on_their_way: &HashMap<i32, Way>,
        waiting: &HashMap<i32, Way>,
    ) {
        if self.decided.is_some() {
            return;
        }
        let moment = Moment {
            running: running.to_vec(),
            aims: on_their_way.values().filter_map(|way| way.to).collect(),
            on_their_way: on_their_way.values().filter(|way| way.to.is_none()).count(),
            waiting: waiting.iter().map(|(&pid, way)| (pid, way.to)).collect(),
        };
        if self.moments.last() != Some(&moment) {
            self.moments.push(moment);
        }
    }

    fn see_switch(&mut self, switch: Record) {
        if self.decided.is_some() {
            self.switched[switch.cpu as usize].get_or_insert((switch.time, switch.pid == 0));
        }
    }

    fn truth(&self, late: Duration) -> Option<Truth> {
        let end = self.decided? + late.as_nanos() as u64;
        let soon = |cpu: &usize| self.switched[*cpu].is_some_and(|(time, idle)| idle && time < end);
        Some(Truth {
            moments: self.moments.clone(),
            soon_idle: (0..self.switched.len()).filter(soon).collect(),
            answer: self.answer?,
        })
    }
}
