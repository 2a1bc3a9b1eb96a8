// SPDX-License-Identifier: GPL-2.0-only
//! The guest as the tests see it, read without coregate's own code; and load on its CPUs.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Whether this is a guest of xtask: PID 1 is its init script.
pub(crate) fn is_guest() -> bool {
    fs::read_to_string("/proc/1/cmdline").is_ok_and(|line| line.contains("/init"))
        && fs::exists("/command").unwrap_or(false)
}

/// A core: its node and its online CPUs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Core {
    pub(crate) node: u32,
    pub(crate) cpus: Vec<u32>,
}

/// The online cores, ordered by node.
pub(crate) fn cores() -> Result<Vec<Core>> {
    let mut cores = BTreeMap::new();
    for entry in fs::read_dir("/sys/devices/system/cpu")? {
        let dir = entry?.path();
        let siblings = dir.join("topology/thread_siblings_list");
        let Ok(siblings) = fs::read_to_string(&siblings) else {
            continue;
        };
        let node = fs::read_dir(&dir)?
            .filter_map(|entry| {
                entry
                    .ok()?
                    .file_name()
                    .to_str()?
                    .strip_prefix("node")?
                    .parse()
                    .ok()
            })
            .next()
            .unwrap_or(0);
        cores.insert(siblings.trim().to_owned(), node);
    }
    let mut cores: Vec<Core> = cores
        .into_iter()
        .map(|(siblings, node)| {
            Ok(Core {
                node,
                cpus: list(&siblings)?,
            })
        })
        .collect::<Result<_>>()?;
    cores.sort();
    Ok(cores)
}

/// The CPUs of a node.
pub(crate) fn node_cpus(node: u32) -> Result<Vec<u32>> {
    Ok(cores()?
        .into_iter()
        .filter(|core| core.node == node)
        .flat_map(|core| core.cpus)
        .collect())
}

/// The cores of a node.
pub(crate) fn node_cores(node: u32) -> Result<Vec<Core>> {
    Ok(cores()?
        .into_iter()
        .filter(|core| core.node == node)
        .collect())
}

/// Every online CPU.
pub(crate) fn cpus() -> Result<Vec<u32>> {
    let mut cpus: Vec<u32> = cores()?.into_iter().flat_map(|core| core.cpus).collect();
    cpus.sort_unstable();
    Ok(cpus)
}

/// A list of numbers as the kernel writes it: `0-3,8`.
fn list(text: &str) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.parse::<u32>()?..=last.parse()?);
    }
    Ok(numbers)
}

/// Lets the calling thread, and what it starts, run on these CPUs only.
pub(crate) fn pin(cpus: &[u32]) -> Result<()> {
    keep(0, cpus)
}

/// Lets a thread, by its number, run on these CPUs only.
pub(crate) fn keep(pid: u32, cpus: &[u32]) -> Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu as usize)?;
    }
    sched_setaffinity(Pid::from_raw(pid as i32), &set)
        .with_context(|| format!("cannot move to {cpus:?}"))
}

/// Works for some microseconds, and ends with a `pause`, at which QEMU goes on with the next CPU:
/// without one it does so after some 16 ms.
pub(crate) fn work() {
    for i in 0..1_000 {
        std::hint::black_box(i);
    }
    std::hint::spin_loop();
}

/// Lets each of these CPUs switch from one task to another.
pub(crate) fn visit(cpus: &[u32]) -> Result<()> {
    for &cpu in cpus {
        std::thread::spawn(move || {
            pin(&[cpu])?;
            std::thread::sleep(Duration::from_millis(1));
            anyhow::Ok(())
        })
        .join()
        .ok()
        .context("a thread did not end")??;
    }
    Ok(())
}

/// Does the one again and again, in a thread of its own, until the other is over: how often, and what
/// became of the other.
pub(crate) fn repeat_during<T>(
    mut one: impl FnMut() -> Result<()> + Send,
    other: impl FnOnce() -> Result<T>,
) -> Result<(u64, T)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let repeated = scope.spawn(|| {
            let mut times = 0;
            while !over.load(Ordering::Relaxed) {
                one()?;
                times += 1;
            }
            anyhow::Ok(times)
        });
        let other = other();
        over.store(true, Ordering::Relaxed);
        let times = repeated.join().ok().context("a thread panicked")??;
        Ok((times, other?))
    })
}

/// Threads that keep CPUs busy until dropped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// One thread that spins on each of these CPUs; returns once all of them run.
    pub(crate) fn on(cpus: &[u32]) -> Result<Self> {
        Self::with(cpus, || ())
    }

    /// No core of the node is free: one thread spins on each of them. The siblings are left
    /// to the launches, which would crawl otherwise.
    pub(crate) fn fill(node: u32) -> Result<Self> {
        let leaders: Vec<u32> = node_cores(node)?.iter().map(|core| core.cpus[0]).collect();
        Self::on(&leaders)
    }

    /// One thread on each of these CPUs that is busy and idle in turns of up to `most`.
    pub(crate) fn bursts(cpus: &[u32], most: Duration) -> Result<Self> {
        let seed = std::sync::atomic::AtomicU64::new(1);
        let state = Arc::new(seed);
        Self::with(cpus, move || {
            let random = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let part = |bits: u64| most.mul_f64((bits & 0xff) as f64 / 255.0);
            let end = Instant::now() + part(random >> 13);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            std::thread::sleep(part(random >> 29));
        })
    }

    fn with(cpus: &[u32], turn: impl Fn() + Clone + Send + 'static) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (started, all) = std::sync::mpsc::channel();
        let threads = cpus
            .iter()
            .map(|&cpu| {
                let (stop, turn, started) = (Arc::clone(&stop), turn.clone(), started.clone());
                std::thread::spawn(move || {
                    let pinned = pin(&[cpu]);
                    // The receiver waits for every thread, so it is there.
                    let _ = started.send(pinned);
                    while !stop.load(Ordering::Relaxed) {
                        turn();
                    }
                })
            })
            .collect();
        let load = Self { stop, threads };
        for _ in cpus {
            all.recv_timeout(Duration::from_secs(20))
                .context("a busy thread did not start")??;
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Lets the kernel free the programs and maps of a gate or a scheduler that has just ended, before CPUs
/// go: on a busy machine 6.16 and 6.18 were seen to hang then, with the worker that frees them, the
/// grace period that it waits for, and the CPU's end each blocked.
pub(crate) fn let_programs_go() {
    std::thread::sleep(Duration::from_secs(2));
}

/// Waits until `done` says so, for at most `time`.
pub(crate) fn wait_for(what: &str, time: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + time;
    while !done() {
        if Instant::now() > end {
            bail!("{what}: not within {time:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Tries for 30 s until `attempt` has what is wanted: something else may run for a while on a core that
/// nobody was given. The pauses grow, as a try in vain is logged, and that takes a core, too.
pub(crate) fn in_the_end<T>(
    what: &str,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(30);
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("{what}: not within 30 s");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}
