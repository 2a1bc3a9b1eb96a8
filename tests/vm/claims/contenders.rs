// SPDX-License-Identifier: GPL-2.0-only
//! Many processes that try to start one program at one moment: a process of its own with one
//! thread, so that it may fork.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::libc;

use crate::launch::SLEEPER;
use crate::servant::Servant;

/// The word after the program's name that makes it serve as contenders.
pub(crate) const WORD: &str = "contenders";

/// What the processes share.
#[repr(C)]
struct Shared {
    /// The pass that they are in; they wait until it changes.
    pass: AtomicU32,
    /// How many gave up in this pass.
    failed: AtomicU32,
    /// Tries that failed otherwise than they may.
    odd: AtomicU32,
}

/// The contenders, seen from the test.
pub(crate) struct Contenders(Servant);

impl Contenders {
    /// Starts `count` of them for the program at `path`, where the caller may run.
    pub(crate) fn start(count: u32, path: &str) -> Result<Self> {
        Servant::start(&[WORD, &count.to_string(), path]).map(Self)
    }

    fn order(&mut self, order: &str) -> Result<u32> {
        let answer = self.0.ask(order)?;
        answer
            .trim()
            .parse()
            .with_context(|| format!("contenders said {answer:?}"))
    }

    /// Lets all that have not started it try at one moment; how many have by now, and run.
    pub(crate) fn pass(&mut self) -> Result<u32> {
        self.order("pass")
    }

    /// Ends those that started it, and puts new ones in their places.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.order("clear").map(drop)
    }
}

impl Drop for Contenders {
    fn drop(&mut self) {
        let _ = self.0.tell("end");
        self.0.wait();
    }
}

/// Serves: `count` children that try to execute `path`.
pub(crate) fn serve(count: &str, path: &str) -> Result<()> {
    let count: usize = count.parse()?;
    let shared = share()?;
    let (mut started, starts) = pipe()?;
    let spawn = || child(shared, &starts, path);
    let mut waiting = (0..count)
        .map(|_| spawn())
        .collect::<Result<BTreeSet<_>>>()?;
    let mut running = BTreeSet::new();
    let failed = || shared.failed.load(Ordering::SeqCst) as usize;
    for order in std::io::stdin().lines() {
        match order?.as_str() {
            "pass" => {
                shared.failed.store(0, Ordering::SeqCst);
                let trying = waiting.len();
                shared.pass.fetch_add(1, Ordering::SeqCst);
                wake(&shared.pass);
                let before = running.len();
                while trying > running.len() - before + failed() {
                    std::thread::sleep(Duration::from_millis(1));
                    running.extend(read_pids(&mut started));
                }
                waiting = &waiting - &running;
                ensure!(
                    shared.odd.load(Ordering::SeqCst) == 0,
                    "an exec failed otherwise than by a denial"
                );
                println!("{}", running.len());
            }
            "clear" => {
                std::mem::take(&mut running).into_iter().for_each(end);
                while waiting.len() < count {
                    waiting.insert(spawn()?);
                }
                println!("0");
            }
            _ => break,
        }
    }
    waiting.into_iter().chain(running).for_each(end);
    Ok(())
}

fn share() -> Result<&'static Shared> {
    // SAFETY: a new mapping, zeroed, larger than the type and aligned to a page; it stays.
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        ensure!(at != libc::MAP_FAILED, "mmap: {}", Errno::last());
        Ok(&*at.cast::<Shared>())
    }
}

/// A pipe whose reading end does not block; the other end is for the programs that start.
fn pipe() -> Result<(std::io::PipeReader, std::io::PipeWriter)> {
    use std::os::fd::AsRawFd;
    let (reader, writer) = std::io::pipe()?;
    // SAFETY: both descriptors are open; no memory is involved.
    unsafe {
        libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
        libc::fcntl(writer.as_raw_fd(), libc::F_SETFD, 0);
    }
    Ok((reader, writer))
}

/// The programs that have said that they started.
fn read_pids(started: &mut std::io::PipeReader) -> Vec<libc::pid_t> {
    let mut bytes = [0; 512];
    let len = started.read(&mut bytes).unwrap_or(0);
    let (pids, _) = bytes[..len].as_chunks();
    pids.iter()
        .map(|pid| libc::pid_t::from_ne_bytes(*pid))
        .collect()
}

fn wake(word: &AtomicU32) {
    // SAFETY: the word is mapped as long as this process lives.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, i32::MAX) };
}

fn wait_while(word: &AtomicU32, value: u32) {
    while word.load(Ordering::SeqCst) == value {
        // SAFETY: the word is mapped as long as this process lives; there is no timeout.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word,
                libc::FUTEX_WAIT,
                value,
                std::ptr::null::<libc::timespec>(),
            )
        };
    }
}

fn end(pid: libc::pid_t) {
    // SAFETY: a child of ours; its status is not asked for.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
}

fn child(shared: &'static Shared, starts: &std::io::PipeWriter, path: &str) -> Result<libc::pid_t> {
    use std::os::fd::AsRawFd;
    let path = CString::new(path)?;
    let name = CString::new(SLEEPER)?;
    let fd = CString::new(starts.as_raw_fd().to_string())?;
    let words = [name.as_ptr(), fd.as_ptr(), std::ptr::null()];
    let none = [std::ptr::null()];
    let pass = shared.pass.load(Ordering::SeqCst);
    // SAFETY: this process has one thread.
    let pid = unsafe { libc::fork() };
    ensure!(pid >= 0, "fork: {}", Errno::last());
    if pid > 0 {
        return Ok(pid);
    }
    // SAFETY: asks the kernel to end this process with its parent; no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    for pass in pass.. {
        wait_while(&shared.pass, pass);
        // SAFETY: path and lists end as execve(2) wants, and live through the call.
        unsafe { libc::execve(path.as_ptr(), words.as_ptr(), none.as_ptr()) };
        if Errno::last() != Errno::EAGAIN {
            shared.odd.fetch_add(1, Ordering::SeqCst);
        }
        shared.failed.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: ends the child without running what its parent has to run at its end.
    unsafe { libc::_exit(0) }
}
