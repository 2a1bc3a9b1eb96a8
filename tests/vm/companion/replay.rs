// SPDX-License-Identifier: GPL-2.0-only
//! What ran beside the programs that hold cores: switch by switch, from a log, each nanosecond
//! of a holder on a CPU is laid to what each sibling of that CPU ran meanwhile. Pure logic.

pub(crate) mod tests;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// How long a holder may run after a wake-up until it is alone, in nanoseconds, for that to be
/// the taking of its core: an interrupt and a switch on the sibling.
const LONGEST_TAKING: u64 = 1_000_000;

/// Whose a task is, by how it is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    User,
    RealTime,
    Kernel,
}

/// A task, as it was when it came onto a CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// 0 of an idle CPU.
    pub(crate) tid: i32,
    pub(crate) pid: i32,
    pub(crate) kind: Kind,
    /// The CPUs that it may run on, a bit each.
    pub(crate) allowed: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// The CPU runs this task from now on; what ran before went to sleep, or waits for its turn.
    Switch {
        cpu: usize,
        next: Task,
        sleeps: bool,
    },
    /// The task of this tid is woken.
    Wake(i32),
}

/// What a sibling runs beside a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing.
    Idle,
    /// Another thread of the holder.
    Own,
    /// A task of somebody else that could run elsewhere.
    Foreign,
    /// The same, until the holder is alone for the first time after a wake-up.
    Taking,
    /// A thread of another holder.
    Holder,
    /// A task of somebody else that may run on no other core.
    Confined,
    /// A task that no sched_ext scheduler rules.
    RealTime,
    Kernel,
    /// The log has not seen the sibling switch yet.
    Unknown,
}

impl Beside {
    pub(crate) const ALL: [Self; 9] = [
        Self::Idle,
        Self::Own,
        Self::Foreign,
        Self::Taking,
        Self::Holder,
        Self::Confined,
        Self::RealTime,
        Self::Kernel,
        Self::Unknown,
    ];
}

/// The windows of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) count: u64,
    /// In nanoseconds.
    pub(crate) total: u64,
    pub(crate) longest: u64,
}

impl Windows {
    fn add(&mut self, length: u64) {
        // Two switches at one instant are none.
        if length > 0 {
            self.count += 1;
            self.total += length;
            self.longest = self.longest.max(length);
        }
    }
}

/// What became of one holder.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// By CPU: how long it ran there, in nanoseconds.
    pub(crate) on: Vec<u64>,
    beside: [Windows; Beside::ALL.len()],
    /// From each wake-up until it ran, in nanoseconds.
    waits: Vec<u64>,
}

impl Account {
    fn new(cpus: usize) -> Self {
        Self {
            on: vec![0; cpus],
            beside: Default::default(),
            waits: Vec::new(),
        }
    }

    /// Takes in what became of one like it in another time.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (on, more) in self.on.iter_mut().zip(&other.on) {
            *on += more;
        }
        for (windows, more) in self.beside.iter_mut().zip(&other.beside) {
            windows.count += more.count;
            windows.total += more.total;
            windows.longest = windows.longest.max(more.longest);
        }
        self.waits.extend(&other.waits);
    }

    /// How long it ran, in nanoseconds.
    pub(crate) fn ran(&self) -> u64 {
        self.on.iter().sum()
    }

    pub(crate) fn beside(&self, what: Beside) -> Windows {
        self.beside[what as usize]
    }

    /// The part of its time in which a sibling ran this.
    pub(crate) fn share(&self, what: Beside) -> f64 {
        self.beside(what).total as f64 / self.ran().max(1) as f64
    }

    pub(crate) fn wakeups(&self) -> usize {
        self.waits.len()
    }

    /// The wait that this part of the wake-ups did not exceed.
    pub(crate) fn wait(&self, part: f64) -> Duration {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        let at = (waits.len() as f64 * part).ceil() as usize;
        let wait = waits.get(at.max(1) - 1).copied();
        Duration::from_nanos(wait.unwrap_or_default())
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Duration::from_nanos;
        write!(f, "ran {:.2?}", time(self.ran()))?;
        for what in Beside::ALL {
            let Windows {
                count,
                total,
                longest,
            } = self.beside(what);
            if count > 0 {
                let share = self.share(what) * 100.0;
                let (total, longest) = (time(total), time(longest));
                write!(
                    f,
                    "; {what:?} {share:.4} % ({count} x, {total:.2?}, longest {longest:.2?})"
                )?;
            }
        }
        let [median, p99, most] = [0.5, 0.99, 1.0].map(|part| self.wait(part));
        let count = self.wakeups();
        write!(
            f,
            "; {count} wake-ups to run: median {median:.1?}, p99 {p99:.1?}, max {most:.1?}"
        )
    }
}

/// The time of a holder's thread after a wake-up in which it has not been alone.
#[derive(Debug)]
struct Taking {
    since: u64,
    /// How long foreign tasks ran beside it, in nanoseconds.
    lengths: Vec<u64>,
}

impl Taking {
    fn since(time: u64) -> Self {
        Self {
            since: time,
            lengths: Vec::new(),
        }
    }

    /// Whose core was not taken in time shared it.
    fn settle(&mut self, account: &mut Account, time: u64, taken: bool) {
        let beside = if taken && time - self.since <= LONGEST_TAKING {
            Beside::Taking
        } else {
            Beside::Foreign
        };
        for length in self.lengths.drain(..) {
            account.beside[beside as usize].add(length);
        }
    }
}

/// A thread of a holder.
#[derive(Debug, Default)]
struct Thread {
    asleep: bool,
    woken: Option<u64>,
    taking: Option<Taking>,
}

/// What a CPU runs, and since when.
#[derive(Clone, Copy, Debug)]
struct Running {
    task: Task,
    since: u64,
}

/// A sibling's task beside a holder's, and since when.
#[derive(Debug)]
struct Window {
    beside: Beside,
    since: u64,
}

/// What goes on while the log is read.
pub(crate) struct Replay {
    /// By CPU: the others of its core.
    siblings: Vec<Vec<usize>>,
    running: Vec<Option<Running>>,
    /// By process: its account.
    holders: HashMap<i32, usize>,
    accounts: Vec<Account>,
    threads: HashMap<i32, Thread>,
    /// By CPU of a holder and sibling.
    windows: HashMap<(usize, usize), Window>,
}

impl Replay {
    /// Of cores with these CPUs.
    pub(crate) fn new(cores: impl IntoIterator<Item = Vec<u32>>) -> Self {
        let mut siblings = Vec::new();
        for core in cores {
            for &cpu in &core {
                let others = core.iter().filter(|other| **other != cpu);
                let cpu = cpu as usize;
                siblings.resize_with(siblings.len().max(cpu + 1), Vec::new);
                siblings[cpu] = others.map(|other| *other as usize).collect();
            }
        }
        Self {
            running: vec![None; siblings.len()],
            siblings,
            holders: HashMap::new(),
            accounts: Vec::new(),
            threads: HashMap::new(),
            windows: HashMap::new(),
        }
    }

    /// Opens an account for this process; it gets the next number, from 0.
    pub(crate) fn hold(&mut self, pid: i32) {
        self.holders.insert(pid, self.accounts.len());
        self.accounts.push(Account::new(self.siblings.len()));
    }

    /// The accounts up to this time; they begin anew then.
    pub(crate) fn close(&mut self, time: u64) -> Vec<Account> {
        for cpu in 0..self.running.len() {
            self.leave(cpu, time);
            for sibling in self.siblings[cpu].clone() {
                self.shut(cpu, sibling, time);
                self.look(cpu, sibling, time);
            }
            if let Some((account, tid)) = self.holder(cpu) {
                let thread = self.threads.entry(tid).or_default();
                if let Some(taking) = &mut thread.taking {
                    taking.settle(&mut self.accounts[account], time, true);
                }
            }
        }
        let new = vec![Account::new(self.siblings.len()); self.accounts.len()];
        std::mem::replace(&mut self.accounts, new)
    }

    /// Goes on by one event; they come in the order of their times.
    pub(crate) fn see(&mut self, time: u64, event: Event) {
        match event {
            Event::Switch { cpu, next, sleeps } => self.switch(time, cpu, next, sleeps),
            // A thread may be woken before its way to sleep has ended in a switch.
            Event::Wake(tid) => {
                if let Some(thread) = self.threads.get_mut(&tid) {
                    thread.woken = Some(time);
                }
            }
        }
    }

    fn switch(&mut self, time: u64, cpu: usize, next: Task, sleeps: bool) {
        let siblings = self.siblings[cpu].clone();
        for &sibling in &siblings {
            self.shut(cpu, sibling, time);
        }
        self.leave(cpu, time);
        if let Some((account, tid)) = self.holder(cpu) {
            let thread = self.threads.entry(tid).or_default();
            thread.asleep = sleeps;
            if !sleeps {
                thread.woken = None;
            } else if let Some(mut taking) = thread.taking.take() {
                taking.settle(&mut self.accounts[account], time, false);
            }
        }
        self.running[cpu] = Some(Running {
            task: next,
            since: time,
        });
        if let Some((account, tid)) = self.holder(cpu) {
            let thread = self.threads.entry(tid).or_default();
            let woken = thread.woken.take();
            if std::mem::take(&mut thread.asleep) {
                let waited = woken.map(|woken| time - woken);
                self.accounts[account].waits.extend(waited);
                thread.taking = Some(Taking::since(time));
            }
        }
        for &sibling in &siblings {
            self.look(cpu, sibling, time);
            self.look(sibling, cpu, time);
        }
        for cpu in siblings.into_iter().chain([cpu]) {
            self.look_whether_alone(cpu, time);
        }
    }

    /// Notes what a holder has had of a CPU until now.
    fn leave(&mut self, cpu: usize, time: u64) {
        if let (Some((account, _)), Some(running)) = (self.holder(cpu), &mut self.running[cpu]) {
            let since = std::mem::replace(&mut running.since, time);
            self.accounts[account].on[cpu] += time - since;
        }
    }

    /// Opens a window beside what `cpu` runs, unless it is open.
    fn look(&mut self, cpu: usize, sibling: usize, time: u64) {
        let beside = self.beside(cpu, sibling);
        let open = self.windows.get(&(cpu, sibling));
        if open.map(|window| window.beside) == beside {
            return;
        }
        self.shut(cpu, sibling, time);
        if let Some(beside) = beside {
            let window = Window {
                beside,
                since: time,
            };
            self.windows.insert((cpu, sibling), window);
        }
    }

    /// Ends the window beside what `cpu` runs.
    fn shut(&mut self, cpu: usize, sibling: usize, time: u64) {
        let window = self.windows.remove(&(cpu, sibling));
        let (Some(window), Some((account, tid))) = (window, self.holder(cpu)) else {
            return;
        };
        let length = time - window.since;
        let thread = self.threads.entry(tid).or_default();
        match &mut thread.taking {
            Some(taking) if window.beside == Beside::Foreign => taking.lengths.push(length),
            _ => self.accounts[account].beside[window.beside as usize].add(length),
        }
    }

    /// The taking of a core ends when its holder is alone.
    fn look_whether_alone(&mut self, cpu: usize, time: u64) {
        let Some((account, tid)) = self.holder(cpu) else {
            return;
        };
        let alone = |sibling: &usize| {
            let beside = self.beside(cpu, *sibling);
            matches!(beside, Some(Beside::Idle | Beside::Own))
        };
        if self.siblings[cpu].iter().all(alone) {
            let thread = self.threads.entry(tid).or_default();
            if let Some(mut taking) = thread.taking.take() {
                taking.settle(&mut self.accounts[account], time, true);
            }
        }
    }

    fn task(&self, cpu: usize) -> Option<Task> {
        self.running[cpu].map(|running| running.task)
    }

    /// The account of what a CPU runs, if that is a holder's, and its thread.
    fn holder(&self, cpu: usize) -> Option<(usize, i32)> {
        let task = self.task(cpu)?;
        Some((*self.holders.get(&task.pid)?, task.tid))
    }

    /// What the sibling runs beside a holder's task on this CPU; none if it runs none.
    fn beside(&self, cpu: usize, sibling: usize) -> Option<Beside> {
        self.holder(cpu)?;
        let Some(task) = self.task(sibling) else {
            return Some(Beside::Unknown);
        };
        let bit = |cpu: usize| 1_u64.checked_shl(cpu as u32).unwrap_or(0);
        let core = |core, other: &usize| core | bit(*other);
        let core = self.siblings[cpu].iter().fold(bit(cpu), core);
        Some(match task.kind {
            _ if task.tid == 0 => Beside::Idle,
            Kind::Kernel => Beside::Kernel,
            _ if Some(task.pid) == self.task(cpu).map(|task| task.pid) => Beside::Own,
            Kind::RealTime => Beside::RealTime,
            Kind::User if self.holders.contains_key(&task.pid) => Beside::Holder,
            Kind::User if task.allowed & !core == 0 => Beside::Confined,
            Kind::User => Beside::Foreign,
        })
    }
}
