// SPDX-License-Identifier: GPL-2.0-only
//! The process that launches and counts: one thread that stays on one CPU, so that nothing
//! but its launches differs from block to block.

use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sched::sched_getcpu;

use crate::machine::pin;
use crate::servant::Servant;

/// The word after the program's name that makes it a measurer.
pub(super) const WORD: &str = "bench-measurer";

/// Launches of a block whose counts are not used.
const WARM_UP: usize = 20;

/// Launches of a block whose counts are used.
const LAUNCHES: usize = 200;

/// Launches of a block in all; each that a rule matches makes one verdict.
pub(super) const BLOCK: usize = WARM_UP + LAUNCHES;

/// Between two launches: the daemon has read a verdict and sleeps again after a tenth of it.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

/// `-icount shift=1`: the clock of the guest goes on by 2 ns with each instruction.
pub(super) const NS_PER_INSTRUCTION: f64 = 2.0;

/// A launch to be measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum Launch<'a> {
    /// An execve of this file, which is executable and in no format the kernel knows: it
    /// goes through the hook and fails with this. No fork, no exit.
    Exec(&'a str, Errno),
    /// A child that shares the memory of its parent and ends at once, and the wait for it.
    Fork,
    /// Such a child, which tries to exec this file first.
    Child(&'a str),
}

/// A measurer that waits for its next block.
pub(super) struct Measurer(Servant);

impl Measurer {
    /// Starts one on this CPU.
    pub(super) fn start(cpu: u32) -> Result<Self> {
        Servant::start(&[WORD, &cpu.to_string()]).map(Self)
    }

    /// The process that launches.
    pub(super) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Sets the CPUs that it may use for execs; it stays on its own, which is one of them. Bound
    /// to one CPU, no launch of it could be admitted.
    pub(super) fn allow(&mut self, cpus: &[u32]) -> Result<()> {
        let cpus: Vec<_> = cpus.iter().map(u32::to_string).collect();
        self.0.tell(&format!("allow {}", cpus.join(",")))
    }

    /// Sets how long it sleeps between two launches.
    pub(super) fn rest(&mut self, time: Duration) -> Result<()> {
        self.0.tell(&format!("rest {}", time.as_micros()))
    }

    /// The instructions of one launch: the 10th percentile of a block, which leaves out those
    /// that a timer interrupt or another CPU cut into.
    pub(super) fn block(&mut self, launch: Launch<'_>) -> Result<f64> {
        let answer = self.0.ask(&match launch {
            Launch::Exec(path, errno) => format!("exec {path} {}", errno as i32),
            Launch::Fork => "fork".to_owned(),
            Launch::Child(path) => format!("child {path}"),
        })?;
        answer
            .trim()
            .parse()
            .with_context(|| format!("the measurer answered {answer:?} to {launch:?}"))
    }
}

/// Runs as a measurer until its standard input ends.
pub(super) fn serve(cpu: &str) -> Result<()> {
    let cpu: u32 = cpu.parse()?;
    pin(&[cpu])?;
    // Fair tasks are moved to the idlest CPU at an exec, real-time ones are not.
    super::set_policy(libc::SCHED_FIFO, 1)?;
    clock_counts_instructions()?;
    let (mut allowed, mut pause) = (vec![cpu], PAUSE);
    for request in std::io::stdin().lines() {
        let request = request?;
        let words: Vec<_> = request.split(' ').collect();
        let instructions = match words[..] {
            ["allow", list] => {
                let cpus = list.split(',').map(str::parse);
                allowed = cpus.collect::<Result<_, _>>()?;
                continue;
            }
            ["rest", micros] => {
                pause = Duration::from_micros(micros.parse()?);
                continue;
            }
            ["exec", path, errno] => {
                pin(&allowed)?;
                let errno = Errno::from_raw(errno.parse()?);
                let path = CString::new(path)?;
                block(cpu, pause, errno, &|| exec(&path))?
            }
            ["fork"] => block(cpu, pause, Errno::from_raw(0), &|| fork(None))?,
            ["child", path] => {
                pin(&allowed)?;
                let path = CString::new(path)?;
                block(cpu, pause, Errno::ENOEXEC, &|| fork(Some(&path)))?
            }
            _ => bail!("no such request: {request}"),
        };
        pin(&[cpu])?;
        println!("{instructions}");
    }
    Ok(())
}

/// A launch whose verdict was another one, as a kernel thread ran on the only free core, does
/// not count, nor one that ended on another CPU.
fn block(cpu: u32, pause: Duration, expected: Errno, launch: &dyn Fn() -> Errno) -> Result<f64> {
    let mut times = Vec::with_capacity(LAUNCHES);
    let mut others = Vec::new();
    for number in 0..BLOCK {
        std::thread::sleep(pause);
        let start = Instant::now();
        let end = launch();
        let time = start.elapsed();
        let at = sched_getcpu()?;
        if end != expected || at != cpu as usize {
            others.push((end, at));
        } else if number >= WARM_UP {
            times.push(time);
        }
    }
    ensure!(
        times.len() > LAUNCHES * 3 / 4,
        "of {BLOCK} launches {} did not end with {expected} on CPU {cpu}, such as {:?}",
        others.len(),
        others[0]
    );
    times.sort_unstable();
    let tenth = times[times.len() / 10].as_nanos() as f64;
    Ok(tenth / NS_PER_INSTRUCTION)
}

/// An execve that fails, and why it did.
fn exec(path: &CStr) -> Errno {
    let none: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: the path and both lists end as execve(2) wants, and live through the call.
    unsafe { libc::execve(path.as_ptr(), none.as_ptr(), none.as_ptr()) };
    Errno::last()
}

/// What vfork(2) does, with a stack of its own for the child: it may not return from the
/// function that vfork was called in. Why the child's exec of `path` failed, or 0.
fn fork(path: Option<&CString>) -> Errno {
    #[repr(align(16))]
    struct Stack([u8; 4096]);
    extern "C" fn child(path: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the parent, which waits, has a path there or nothing.
        let path = unsafe { path.cast::<CString>().as_ref() };
        let end = path.map_or(0, |path| exec(path) as libc::c_int);
        // SAFETY: ends the child without touching what it shares with its parent.
        unsafe { libc::_exit(end) }
    }
    let mut stack = Stack([0; 4096]);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let path = path.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the child has ended when clone(2) returns, so its stack and the path outlive it.
    let pid = unsafe {
        let top = stack.0.as_mut_ptr().add(stack.0.len());
        libc::clone(child, top.cast(), flags, path.cast_mut().cast())
    };
    if pid < 0 {
        return Errno::last();
    }
    let mut status = 0;
    // SAFETY: the status is there.
    match unsafe { libc::waitpid(pid, &raw mut status, 0) } {
        answer if answer == pid => Errno::from_raw(libc::WEXITSTATUS(status)),
        _ => Errno::last(),
    }
}

/// Fails where the clock does not count instructions.
fn clock_counts_instructions() -> Result<()> {
    const TURNS: u64 = 10_000;
    let turns = || {
        let start = Instant::now();
        // SAFETY: counts a register down; touches nothing else.
        unsafe {
            std::arch::asm!(
                "2: dec {n}",
                "jnz 2b",
                n = inout(reg) TURNS => _,
                options(nomem, nostack),
            );
        }
        start.elapsed().as_nanos() as f64
    };
    let mut least = f64::MAX;
    for _ in 0..100 {
        std::thread::sleep(PAUSE);
        least = least.min(turns());
    }
    let found = least / (2 * TURNS) as f64;
    ensure!(
        (found / NS_PER_INSTRUCTION - 1.0).abs() < 0.01,
        "an instruction takes {found:.3} ns of the guest's clock, not {NS_PER_INSTRUCTION}: \
         run this with `cargo xtask bench`"
    );
    Ok(())
}
