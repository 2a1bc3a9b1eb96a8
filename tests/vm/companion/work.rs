// SPDX-License-Identifier: GPL-2.0-only
//! Threads that want CPUs, and measure themselves what they get.

use std::cell::RefCell;
use std::fs;
use std::ops::RangeBounds;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::{Pid, gettid};

use crate::bench::set_policy;
use crate::machine::{self, wait_for};

/// What a thread does in each turn.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Busy,
    Hog,
    Bursty,
    Napping,
    Forking,
    Spawning,
}

/// What a thread is to do, and how.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    kind: Kind,
    cpus: Vec<u32>,
    nice: i32,
    real_time: bool,
}

impl Job {
    /// Never sleeps.
    pub(crate) fn busy() -> Self {
        Self {
            kind: Kind::Busy,
            cpus: Vec::new(),
            nice: 0,
            real_time: false,
        }
    }

    /// Never sleeps, and does real work.
    pub(crate) fn hog() -> Self {
        Self {
            kind: Kind::Hog,
            ..Self::busy()
        }
    }

    /// Sleeps and works in turns of up to 4 ms.
    pub(crate) fn bursty() -> Self {
        Self {
            kind: Kind::Bursty,
            ..Self::busy()
        }
    }

    /// Sleeps 3 ms, works a little, again and again.
    pub(crate) fn napping() -> Self {
        Self {
            kind: Kind::Napping,
            ..Self::busy()
        }
    }

    /// Starts one program after the other.
    pub(crate) fn forking() -> Self {
        Self {
            kind: Kind::Forking,
            ..Self::busy()
        }
    }

    /// Starts one thread after the other.
    pub(crate) fn spawning() -> Self {
        Self {
            kind: Kind::Spawning,
            ..Self::busy()
        }
    }

    /// On these CPUs only.
    pub(crate) fn on(self, cpus: &[u32]) -> Self {
        Self {
            cpus: cpus.to_vec(),
            ..self
        }
    }

    /// With this nice value.
    pub(crate) fn nice(self, nice: i32) -> Self {
        Self { nice, ..self }
    }

    /// Above all that sched_ext rules.
    pub(crate) fn real_time(self) -> Self {
        Self {
            real_time: true,
            ..self
        }
    }

    fn turn(&self) {
        match self.kind {
            Kind::Busy => spin(),
            Kind::Hog => machine::work(),
            Kind::Bursty => {
                let some = || BURST.mul_f64(fastrand::f64());
                std::thread::sleep(some());
                let (start, time) = (Instant::now(), some());
                while start.elapsed() < time {
                    machine::work();
                }
            }
            Kind::Napping => {
                std::thread::sleep(NAP);
                spin();
            }
            Kind::Forking => {
                let _ = Command::new("/bin/true").stdin(Stdio::null()).status();
            }
            Kind::Spawning => {
                let _ = std::thread::spawn(spin).join();
            }
        }
    }
}

const NAP: Duration = Duration::from_millis(3);
const BURST: Duration = Duration::from_millis(4);

/// A small piece of work.
fn spin() {
    for _ in 0..2_000 {
        std::hint::spin_loop();
    }
}

/// What a thread tells of itself.
#[derive(Default)]
struct Account {
    turns: AtomicU64,
    cpu: AtomicI32,
}

/// What the kernel tells of a thread: the work of an emulated CPU says little of how long a
/// thread was on it.
struct Watch {
    ran: u64,
    changed: Instant,
    longest: Duration,
}

struct Member {
    tid: Pid,
    job: Job,
    account: Arc<Account>,
    watch: RefCell<Watch>,
    thread: JoinHandle<()>,
}

impl Member {
    /// Nanoseconds on a CPU so far.
    fn ran(&self) -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.tid))?;
        let ran = stat.split_whitespace().next().context("empty schedstat")?;
        Ok(ran.parse()?)
    }

    /// Notes how long the thread has been on no CPU, as far as it is certain.
    fn look(&self) -> Result<()> {
        let ran = self.ran()?;
        let mut watch = self.watch.borrow_mut();
        if ran == watch.ran {
            watch.longest = watch.longest.max(watch.changed.elapsed());
        } else {
            watch.ran = ran;
            watch.changed = Instant::now();
        }
        Ok(())
    }

    /// Whether it wants a CPU all the time, or nearly so.
    fn is_eager(&self) -> bool {
        matches!(self.job.kind, Kind::Busy | Kind::Hog | Kind::Napping)
    }
}

/// Threads at work until dropped.
pub(crate) struct Crew {
    members: Vec<Member>,
    stop: Arc<AtomicBool>,
}

impl Crew {
    /// Starts a thread for each job; returns once all of them are at work.
    pub(crate) fn start(jobs: impl IntoIterator<Item = Job>) -> Result<Self> {
        let mut crew = Self {
            members: Vec::new(),
            stop: Arc::default(),
        };
        for job in jobs {
            let member = crew.hire(job)?;
            crew.members.push(member);
        }
        Ok(crew)
    }

    fn hire(&self, job: Job) -> Result<Member> {
        let account = Arc::<Account>::default();
        let (sender, started) = channel();
        let (its_job, its_account, stop) = (job.clone(), account.clone(), self.stop.clone());
        let thread = std::thread::spawn(move || {
            let ready = prepare(&its_job);
            // The receiver waits for it.
            let _ = sender.send(ready);
            work(&its_job, &its_account, &stop);
        });
        let started = started.recv_timeout(Duration::from_secs(30));
        let tid = started.with_context(|| format!("{job:?} did not start"))??;
        Ok(Member {
            tid,
            job,
            account,
            watch: RefCell::new(Watch {
                ran: 0,
                changed: Instant::now(),
                longest: Duration::ZERO,
            }),
            thread,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The CPU on which each thread last found itself.
    pub(crate) fn last_cpus(&self) -> impl Iterator<Item = u32> {
        let cpu = |member: &Member| member.account.cpu.load(Ordering::Relaxed);
        self.members
            .iter()
            .filter_map(move |member| u32::try_from(cpu(member)).ok())
    }

    /// Watches all threads for this time.
    pub(crate) fn watch(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Looks once at all threads; for waits to be seen this must be done often.
    pub(crate) fn look(&self) -> Result<()> {
        self.members.iter().try_for_each(Member::look)
    }

    /// The longest time that an eager thread with such a nice value was seen to be on no CPU.
    pub(crate) fn longest_wait(&self, nice: impl RangeBounds<i32>) -> Duration {
        let such = self
            .members
            .iter()
            .filter(|member| member.is_eager() && nice.contains(&member.job.nice));
        let longest = such.map(|member| member.watch.borrow().longest);
        longest.max().unwrap_or_default()
    }

    /// The longest wait of each thread, and its job.
    pub(crate) fn waits(&self) -> String {
        let wait =
            |member: &Member| format!("\n  {:?} {:?}", member.watch.borrow().longest, member.job);
        self.members.iter().map(wait).collect()
    }

    /// CPU time of each thread, in seconds.
    pub(crate) fn cpu_times(&self) -> Result<Vec<f64>> {
        let seconds = |member: &Member| Ok(member.ran()? as f64 / 1e9);
        self.members.iter().map(seconds).collect()
    }

    /// The part of these threads' running that was on these CPUs, by samples.
    pub(crate) fn share_on(&self, cpus: &[u32], span: Duration) -> f64 {
        let (mut there, mut all) = (0.0, 0.0);
        let end = Instant::now() + span;
        let mut seen = self.turns();
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.turns();
            for ((cpu, turns), before) in self.last_cpus().zip(&now).zip(seen) {
                let ran = (turns - before) as f64;
                all += ran;
                there += if cpus.contains(&cpu) { ran } else { 0.0 };
            }
            seen = now;
        }
        there / all
    }

    /// How many turns all threads have done so far.
    pub(crate) fn work(&self) -> u64 {
        self.turns().iter().sum()
    }

    fn turns(&self) -> Vec<u64> {
        self.members
            .iter()
            .map(|m| m.account.turns.load(Ordering::Relaxed))
            .collect()
    }

    /// Each thread gets on within this time.
    pub(crate) fn all_progress(&self, time: Duration) -> Result<()> {
        let before = self.turns();
        wait_for("progress of all", time, || {
            self.turns()
                .iter()
                .zip(&before)
                .all(|(now, then)| now > then)
        })
    }

    /// Lets all threads run on these CPUs from now on.
    pub(crate) fn allow(&self, cpus: &[u32]) -> Result<()> {
        self.members
            .iter()
            .try_for_each(|member| allow(member.tid, cpus))
    }

    /// Gives one thread other CPUs: one, two, half of them, or all.
    pub(crate) fn shuffle(&self, cpus: &[u32], turn: usize) -> Result<()> {
        let member = &self.members[turn % self.members.len()];
        let (count, first) = (cpus.len(), turn / self.members.len());
        let take = [1, 2, count / 2, count][turn % 4];
        let some: Vec<u32> = (0..take).map(|n| cpus[(first + n * 3) % count]).collect();
        allow(member.tid, &some)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for member in self.members.drain(..) {
            let _ = member.thread.join();
        }
    }
}

fn work(job: &Job, account: &Account, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        job.turn();
        account.turns.fetch_add(1, Ordering::Relaxed);
        let cpu = sched_getcpu().ok().and_then(|cpu| i32::try_from(cpu).ok());
        account.cpu.store(cpu.unwrap_or(-1), Ordering::Relaxed);
    }
}

fn prepare(job: &Job) -> Result<Pid> {
    let tid = gettid();
    if !job.cpus.is_empty() {
        allow(tid, &job.cpus)?;
    }
    // SAFETY: setpriority() takes numbers only; 0 is the calling thread.
    let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, job.nice) };
    Errno::result(set).context("cannot set the nice value")?;
    if job.real_time {
        set_policy(libc::SCHED_FIFO, 1).context("cannot become a real-time task")?;
    }
    Ok(tid)
}

fn allow(tid: Pid, cpus: &[u32]) -> Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu as usize)?;
    }
    sched_setaffinity(tid, &set).with_context(|| format!("cannot move {tid} to {cpus:?}"))
}
