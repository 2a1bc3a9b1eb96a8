// SPDX-License-Identifier: GPL-2.0-only
//! I10, nobody else holds the keys: attempts to change verdicts or to read what others launch, each
//! by root, for whom it works; by an unprivileged user; and by that user as root of a user namespace
//! of its own. The table is in docs/threat-model.md.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libbpf_rs::libbpf_sys::{
    bpf_link_get_fd_by_id, bpf_map_get_fd_by_id, bpf_map_get_next_id, bpf_obj_get,
    bpf_prog_get_fd_by_id,
};
use libbpf_rs::query::{LinkInfoIter, MapInfoIter, ProgInfoIter};
use nix::errno::Errno;
use nix::libc::{self, EACCES, EAGAIN, EPERM};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::evasion::before;
use crate::gate::{Gate, POLICY};
use crate::launch::{USER, fails, program, starts};
use crate::machine::{Load, wait_for};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "i10_nobody_else_holds_the_keys",
    needs: Needs::AnyKernel,
    on: NUMA,
    run,
}];

const SERVER: &str = "/opt/server";
const PINS: &str = "/sys/fs/bpf/coregate";
const CONTROL: &str = "/run/coregate/control.sock";
const LOGS: &str = "/var/log/coregate";
const LOG: &str = "/var/log/coregate/events.json";

/// What this program does when its first argument is this: one attempt, whose errno it ends with.
pub(crate) const WORD: &str = "try-the-keys";

/// What an attempt is told: numbers and paths by name.
type Target = HashMap<String, String>;

/// An attempt: its name, what it does, and the errnos for the user and for the root of a user
/// namespace.
type Attempt = (&'static str, fn(&Target) -> nix::Result<()>, [i32; 2]);

/// Nothing that these do is left undone or does harm when root does it, but for the last two.
const ATTEMPTS: &[Attempt] = &[
    ("open a map by its number", map_by_id, [EPERM, EPERM]),
    (
        "open a program by its number",
        program_by_id,
        [EPERM, EPERM],
    ),
    ("open a link by its number", link_by_id, [EPERM, EPERM]),
    ("list the maps", next_map, [EPERM, EPERM]),
    ("open a pinned link", pinned, [EACCES, EACCES]),
    ("list what is pinned", |_| list(PINS), [EACCES, EACCES]),
    (
        "make something among the pins",
        among_pins,
        [EACCES, EACCES],
    ),
    ("ask the daemon", connect, [EACCES, EACCES]),
    (
        "stand in for the daemon's socket",
        stand_in,
        [EACCES, EACCES],
    ),
    (
        "take the daemon's lock",
        |_| write("/run/coregate/lock"),
        [EACCES, EACCES],
    ),
    ("write the policy", |_| write(POLICY), [EACCES, EACCES]),
    (
        "let the daemon read the policy again",
        |to| signal(to, Signal::SIGHUP),
        [EPERM, EPERM],
    ),
    ("trace the daemon", trace, [EPERM, EPERM]),
    (
        "read the daemon's memory",
        |to| read(&proc(to, "mem")),
        [EACCES, EACCES],
    ),
    ("read it by a system call", read_memory, [EPERM, EPERM]),
    (
        "list the daemon's descriptors",
        |to| list(&proc(to, "fd")),
        [EACCES, EACCES],
    ),
    (
        "open one of them",
        |to| read(&proc(to, "fd/2")),
        [EACCES, EACCES],
    ),
    ("take one of them", take_descriptor, [EPERM, EPERM]),
    ("move the daemon to other CPUs", affinity, [EPERM, EPERM]),
    ("limit the daemon", limit, [EPERM, EPERM]),
    ("offer the daemon to the OOM killer", oom, [EACCES, EACCES]),
    (
        "list the folder of the log",
        |_| list(LOGS),
        [EACCES, EACCES],
    ),
    ("read the log", |_| read(LOG), [EACCES, EACCES]),
    ("write to the log", |_| write(LOG), [EACCES, EACCES]),
    ("truncate the log", |_| truncate(LOG), [EACCES, EACCES]),
    ("rename the log", |_| rename(LOG), [EACCES, EACCES]),
    (
        "remove the log",
        |_| result(fs::remove_file(LOG)),
        [EACCES, EACCES],
    ),
    ("take a link's pin away", unpin, [EACCES, EACCES]),
];

fn number(to: &Target, name: &str) -> u32 {
    to.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn daemon(to: &Target) -> Pid {
    Pid::from_raw(number(to, "pid") as i32)
}

fn proc(to: &Target, file: &str) -> String {
    format!("/proc/{}/{file}", number(to, "pid"))
}

fn result<T>(result: std::io::Result<T>) -> nix::Result<()> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    result.map(drop).map_err(errno)
}

/// What libbpf answers: a descriptor, or a negative errno.
fn descriptor(fd: i32) -> nix::Result<OwnedFd> {
    if fd < 0 {
        return Err(Errno::from_raw(-fd));
    }
    // SAFETY: the descriptor is new, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn map_by_id(to: &Target) -> nix::Result<()> {
    // SAFETY: asks for a descriptor, and writes nothing.
    descriptor(unsafe { bpf_map_get_fd_by_id(number(to, "map")) }).map(drop)
}

fn program_by_id(to: &Target) -> nix::Result<()> {
    // SAFETY: as above.
    descriptor(unsafe { bpf_prog_get_fd_by_id(number(to, "program")) }).map(drop)
}

fn link_by_id(to: &Target) -> nix::Result<()> {
    // SAFETY: as above.
    descriptor(unsafe { bpf_link_get_fd_by_id(number(to, "link")) }).map(drop)
}

fn next_map(_: &Target) -> nix::Result<()> {
    let mut next = 0;
    // SAFETY: writes one number, which is there.
    let answer = unsafe { bpf_map_get_next_id(0, &mut next) };
    if answer < 0 {
        return Err(Errno::from_raw(-answer));
    }
    Ok(())
}

fn pinned(to: &Target) -> nix::Result<()> {
    let path = to.get("pin").cloned().unwrap_or_default();
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    // SAFETY: reads a string that ends in NUL.
    descriptor(unsafe { bpf_obj_get(path.as_ptr()) }).map(drop)
}

fn unpin(to: &Target) -> nix::Result<()> {
    result(fs::remove_file(to.get("pin").cloned().unwrap_or_default()))
}

fn list(path: &str) -> nix::Result<()> {
    result(fs::read_dir(path))
}

fn among_pins(_: &Target) -> nix::Result<()> {
    let path = format!("{PINS}/mine");
    result(fs::create_dir(&path))?;
    result(fs::remove_dir(&path))
}

fn connect(_: &Target) -> nix::Result<()> {
    result(UnixStream::connect(CONTROL))
}

fn stand_in(_: &Target) -> nix::Result<()> {
    let path = "/run/coregate/mine.sock";
    result(UnixListener::bind(path))?;
    result(fs::remove_file(path))
}

fn write(path: &str) -> nix::Result<()> {
    result(OpenOptions::new().append(true).open(path))
}

fn truncate(path: &str) -> nix::Result<()> {
    result(OpenOptions::new().write(true).truncate(true).open(path))
}

fn rename(path: &str) -> nix::Result<()> {
    let other = format!("{path}.mine");
    result(fs::rename(path, &other))?;
    result(fs::rename(&other, path))
}

fn read(path: &str) -> nix::Result<()> {
    result(OpenOptions::new().read(true).open(path))
}

fn signal(to: &Target, signal: Signal) -> nix::Result<()> {
    kill(daemon(to), signal)
}

fn trace(to: &Target) -> nix::Result<()> {
    let (pid, none) = (daemon(to).as_raw(), 0usize);
    // SAFETY: the other process is seized, not stopped, until this one ends.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) }).map(drop)
}

/// An address of the daemon's program, as root found it.
fn read_memory(to: &Target) -> nix::Result<()> {
    let mut byte = 0u8;
    let address = to.get("address").and_then(|text| text.parse().ok());
    let local = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address.unwrap_or(0)),
        iov_len: 1,
    };
    let pid = daemon(to).as_raw();
    // SAFETY: writes one byte here, which is there.
    Errno::result(unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) }).map(drop)
}

fn take_descriptor(to: &Target) -> nix::Result<()> {
    let pid = daemon(to).as_raw();
    // SAFETY: makes a descriptor, and writes nothing.
    let answer = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let process = descriptor(answer as i32)?;
    let fd = process.as_raw_fd();
    // SAFETY: as above.
    let answer = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_getfd, fd, 2, 0) })?;
    descriptor(answer as i32).map(drop)
}

fn affinity(to: &Target) -> nix::Result<()> {
    let all = nix::sched::sched_getaffinity(daemon(to))?;
    let mut one = CpuSet::new();
    one.set(0)?;
    sched_setaffinity(daemon(to), &one)?;
    sched_setaffinity(daemon(to), &all)
}

fn limit(to: &Target) -> nix::Result<()> {
    let pid = daemon(to).as_raw();
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let none = std::ptr::null();
    // SAFETY: writes one limit, which is there.
    Errno::result(unsafe { libc::prlimit(pid, libc::RLIMIT_CORE, none, &mut limit) })?;
    // SAFETY: reads one limit, which is there, and writes nothing.
    let answer = unsafe { libc::prlimit(pid, libc::RLIMIT_CORE, &limit, std::ptr::null_mut()) };
    Errno::result(answer).map(drop)
}

fn oom(to: &Target) -> nix::Result<()> {
    result(fs::write(proc(to, "oom_score_adj"), "0"))
}

/// Does what it is told to, as it was started by [`attempt`].
pub(crate) fn serve(name: &str, target: &str) -> Result<()> {
    let target: Target = serde_json::from_str(target)?;
    let attempt = ATTEMPTS.iter().find(|(known, ..)| *known == name);
    let (_, attempt, _) = attempt.context("no such attempt")?;
    let code = attempt(&target).err().map_or(0, |errno| errno as i32);
    std::process::exit(code)
}

/// Who makes an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Root,
    User,
    /// The same, as root of a user namespace.
    RootOfNamespace,
}

fn attempt(name: &str, target: &Target, who: Who) -> Result<i32> {
    let mut command = Command::new("/bin/coregate-vm");
    command.args([WORD, name, &serde_json::to_string(target)?]);
    if who != Who::Root {
        command.uid(USER).gid(USER);
    }
    if who == Who::RootOfNamespace {
        before(&mut command, || {
            // After the change of the user its own files below /proc are root's.
            nix::sys::prctl::set_dumpable(true)?;
            unshare(CloneFlags::CLONE_NEWUSER)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("0 {USER} 1"))?;
            fs::write("/proc/self/gid_map", format!("0 {USER} 1"))
        });
    }
    let output = command.output()?;
    let code = output.status.code();
    code.filter(|_| output.stderr.is_empty())
        .with_context(|| format!("{name} by {who:?}: {output:?}"))
}

/// What belongs to the gate that stands, by what the kernel says to root.
fn target(gate: &Gate) -> Result<Target> {
    let program = ProgInfoIter::default().find(|program| program.name.as_bytes() == b"on_exec");
    let program = program.context("no program on_exec")?.id;
    let link = LinkInfoIter::default().find(|link| link.prog_id == program);
    let map = MapInfoIter::default().find(|map| map.name.as_bytes() == b"claims");
    let maps = fs::read_to_string(format!("/proc/{}/maps", gate.pid()))?;
    let address = maps.split('-').next().unwrap_or_default();
    let address = u64::from_str_radix(address, 16)?;
    Ok(Target::from([
        ("pid".into(), gate.pid().to_string()),
        ("program".into(), program.to_string()),
        ("link".into(), link.context("no link")?.id.to_string()),
        ("map".into(), map.context("no map claims")?.id.to_string()),
        ("address".into(), address.to_string()),
        ("pin".into(), format!("{PINS}/links/on_exec")),
    ]))
}

/// Takes the gate down that stays.
pub(crate) struct TakenDown;

impl Drop for TakenDown {
    fn drop(&mut self) {
        let _ = fs::set_permissions("/sys/fs/bpf", fs::Permissions::from_mode(0o700));
        let _ = Command::new(crate::gate::COREGATE).arg("detach").output();
    }
}

fn run() -> Result<()> {
    program(SERVER)?;
    starts(SERVER)?;
    let _taken_down = TakenDown;
    fs::create_dir_all(LOGS)?;
    // Whoever knows its name gets as far as the file: it is not for the folder alone to refuse that.
    fs::set_permissions(LOGS, fs::Permissions::from_mode(0o711))?;
    crate::machine::pin(&crate::machine::node_cpus(1)?)?;
    let policy = Gate::policy("enforce", SERVER, "");
    let gate = Gate::start_with(&format!("[log]\nfile = {LOG:?}\n{policy}"), &[])?;
    crate::machine::pin(&crate::machine::node_cpus(0)?)?;
    let _load = Load::fill(0)?;
    fails(SERVER, EAGAIN)?;
    wait_for("the log is there", Duration::from_secs(20), || {
        fs::exists(LOG).unwrap_or(false)
    })?;
    let target = target(&gate)?;
    // What is pinned does not hang on who mounted the file system, and how.
    fs::set_permissions("/sys/fs/bpf", fs::Permissions::from_mode(0o755))?;
    let mut wrong = Vec::new();
    for (name, _, errnos) in ATTEMPTS {
        for (who, errno) in [
            (Who::User, errnos[0]),
            (Who::RootOfNamespace, errnos[1]),
            // Last, as it works.
            (Who::Root, 0),
        ] {
            let found = attempt(name, &target, who)?;
            if found != errno {
                wrong.push(format!(
                    "{name} by {who:?}: errno {errno} expected, found {found} (0: it works)"
                ));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    fails(SERVER, EAGAIN)?;
    gate.stop()
}
