// SPDX-License-Identifier: GPL-2.0-only
//! Those that the gate must not touch: strangers, other LSMs' denials, everybody in observe.

use std::ffi::CString;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use nix::libc::{self, EAGAIN, EXDEV};
use nix::sys::signal::Signal;

use crate::admission::gate_on_node_0;
use crate::gate::Gate;
use crate::launch::{USER, command, fails, launch, program, script, starts};
use crate::machine::{Load, let_programs_go, node_cpus, pin, wait_for};
use crate::skel::denier::DenierSkelBuilder;
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "i2_strangers_pass",
        needs: Needs::Nothing,
        on: NUMA,
        run: strangers,
    },
    Test {
        name: "i2_helpers_of_the_kernel_pass",
        needs: Needs::Nothing,
        on: NUMA,
        run: helpers,
    },
    Test {
        name: "i2_pid_1_passes",
        needs: Needs::Nothing,
        on: NUMA,
        run: pid_1,
    },
    Test {
        name: "i2_execve_check_passes",
        needs: Needs::ExecveCheck,
        on: NUMA,
        run: check,
    },
    Test {
        name: "i6_other_lsms_count",
        needs: Needs::AnyKernel,
        on: NUMA,
        run: other_lsm,
    },
    Test {
        name: "i8_observe_never_blocks",
        needs: Needs::OneKernel,
        on: NUMA,
        run: observe,
    },
    Test {
        name: "i8_unknown_does_not_block_in_observe",
        needs: Needs::OneKernel,
        on: NUMA,
        run: unknown,
    },
];

const SERVER: &str = "/opt/server";
const NEIGHBOUR: &str = "/opt/neighbour";

/// How often a launch that would be denied is let pass.
const LAUNCHES: usize = 12;

/// A rule that denies, in the four steps that show it: on full nodes the program starts without
/// the gate; under it its exec fails; a neighbour's does not, nor does what `meanwhile` tries;
/// without the gate it starts again.
fn denied(path: &str, full: &[u32], meanwhile: impl FnOnce(&Gate) -> Result<()>) -> Result<()> {
    let fill = || -> Result<Vec<Load>> { full.iter().map(|&node| Load::fill(node)).collect() };
    program(NEIGHBOUR)?;
    pin(&node_cpus(0)?)?;
    let load = fill()?;
    starts(path)?;
    drop(load);
    let gate = gate_on_node_0(&Gate::policy("enforce", path, ""))?;
    let load = fill()?;
    fails(path, EAGAIN)?;
    starts(NEIGHBOUR)?;
    meanwhile(&gate)?;
    gate.stop()?;
    starts(path)?;
    drop(load);
    Ok(())
}

fn strangers() -> Result<()> {
    // The same name elsewhere, a name of the same hash, and names around the rule's.
    let others = [
        "/opt/other/server",
        "/opt/servers",
        "/opt/serve",
        "/usr/local/bin/server",
    ];
    program(SERVER)?;
    others.iter().try_for_each(|path| program(path))?;
    denied(SERVER, &[0], |gate| {
        others.iter().try_for_each(|path| starts(path))?;
        for _ in 0..200 {
            std::thread::spawn(|| ())
                .join()
                .ok()
                .context("a thread did not end")?;
        }
        let status = gate.status()?;
        ensure!(status["rules"][0]["launches"] == 1, "{status}");
        Ok(())
    })
}

/// The kernel runs its modprobe helper from a thread of its own.
fn helpers() -> Result<()> {
    const HELPER: &str = "/opt/modprobe";
    const SETTING: &str = "/proc/sys/kernel/modprobe";
    const DONE: &str = "/tmp/helper-ran";
    script(HELPER)?;
    fs::write(HELPER, format!("#!/bin/sh\n: >{DONE}\n"))?;
    denied(HELPER, &[0, 1], |_| {
        fs::remove_file(DONE)?;
        let before = fs::read_to_string(SETTING)?;
        fs::write(SETTING, HELPER)?;
        // A protocol family that nobody has: the kernel asks for its module.
        // SAFETY: socket(2) takes no pointers; the answer is an error, so nothing is left open.
        unsafe { libc::socket(libc::AF_BLUETOOTH, libc::SOCK_RAW, 0) };
        let ran = wait_for("the kernel's helper ran", Duration::from_secs(20), || {
            fs::exists(DONE).unwrap_or(false)
        });
        fs::write(SETTING, before.trim())?;
        ran
    })
}

/// The init script of the guest executes the file that it is told to, when it is told so.
fn pid_1() -> Result<()> {
    const AGAIN: &str = "/run/init-again";
    const DONE: &str = "/tmp/pid-1-ran";
    script(AGAIN)?;
    fs::write(
        AGAIN,
        format!("#!/bin/sh\n[ $$ = 1 ] || exit 0\n: >{DONE}\nexec /bin/sh /init --again\n"),
    )?;
    denied(AGAIN, &[0, 1], |_| {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(1),
            nix::sys::signal::Signal::SIGUSR1,
        )?;
        wait_for("PID 1 ran the file", Duration::from_secs(20), || {
            fs::exists(DONE).unwrap_or(false)
        })
    })
}

fn check() -> Result<()> {
    /// `include/uapi/linux/fcntl.h`, 6.14.
    const AT_EXECVE_CHECK: i32 = 0x10000;
    program(SERVER)?;
    denied(SERVER, &[0], |gate| {
        let path = CString::new(SERVER)?;
        let none: [*const libc::c_char; 1] = [std::ptr::null()];
        // SAFETY: the path and both lists end as execveat(2) wants, and live through the call.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_execveat,
                libc::AT_FDCWD,
                path.as_ptr(),
                none.as_ptr(),
                none.as_ptr(),
                AT_EXECVE_CHECK,
            )
        };
        ensure!(
            answer == 0,
            "the probe failed: {}",
            std::io::Error::last_os_error()
        );
        let status = gate.status()?;
        ensure!(status["rules"][0]["launches"] == 1, "{status}");
        Ok(())
    })
}

/// Another LSM denies each exec of a user. Of two programs on one hook the kernel chooses
/// which runs first, by the order of attaching; both orders are tried.
fn other_lsm() -> Result<()> {
    program(SERVER)?;
    denied(SERVER, &[0], |_| Ok(()))?;
    let counted = [other_lsm_with(true)?, other_lsm_with(false)?];
    ensure!(
        counted.contains(&0) && counted.contains(&1),
        "only one order came up: {counted:?}"
    );
    Ok(())
}

/// How many launches the gate counted while the other LSM denied one.
fn other_lsm_with(gate_is_older: bool) -> Result<u64> {
    let mut storage = MaybeUninit::uninit();
    let mut skel = DenierSkelBuilder::default().open(&mut storage)?.load()?;
    let older = if gate_is_older {
        None
    } else {
        Some(skel.progs.deny_exec.attach_lsm()?)
    };
    let gate = gate_on_node_0(&Gate::policy("enforce", SERVER, ""))?;
    let link = older.map_or_else(|| skel.progs.deny_exec.attach_lsm(), Ok)?;
    let mut deny = |uid: u32| -> Result<()> {
        skel.maps.data_data.as_mut().context("no .data")?.denied_uid = uid;
        Ok(())
    };
    let mut theirs = command(SERVER);
    theirs.uid(USER);

    deny(USER)?;
    let count = || -> Result<u64> {
        gate.status()?["rules"][0]["launches"]
            .as_u64()
            .context("no count")
    };
    // While a kernel thread is busy on the free core, the gate may be first to deny.
    let mut counted = None;
    for _ in 0..50 {
        let before = count()?;
        match launch(&mut theirs)? {
            Some(EXDEV) => {
                counted = Some(count()? - before);
                break;
            }
            Some(EAGAIN) => {}
            other => bail!("the other's denial was lost: {other:?}"),
        }
    }
    let counted = counted.context("the gate denied 50 times while a core was free")?;
    {
        let _load = Load::fill(0)?;
        let expected = if counted == 0 { EXDEV } else { EAGAIN };
        ensure!(
            launch(&mut theirs)? == Some(expected),
            "the gate counted {counted} before"
        );
        deny(u32::MAX)?;
        ensure!(launch(&mut theirs)? == Some(EAGAIN));
    }
    gate.stop()?;
    drop(link);
    ensure!(launch(&mut theirs)?.is_none());
    Ok(counted)
}

fn observe() -> Result<()> {
    program(SERVER)?;
    denied(SERVER, &[0], |_| Ok(()))?;
    let load = Load::fill(0)?;
    let gate = gate_on_node_0(&Gate::policy("observe", SERVER, ""))?;
    for _ in 0..LAUNCHES {
        starts(SERVER)?;
    }
    for verdict in gate.verdicts(LAUNCHES)? {
        ensure!(
            verdict.effect() == "logged" && verdict.get("verdict") == "deny",
            "{verdict:?}"
        );
    }
    let rule = &gate.status()?["rules"][0];
    ensure!(
        rule["would_deny"] == LAUNCHES && rule["denied"] == 0,
        "{rule}"
    );
    drop(load);
    gate.stop()
}

/// A node whose CPUs all came after the daemon read the topology is unknown to the gate.
fn unknown() -> Result<()> {
    program(SERVER)?;
    program(NEIGHBOUR)?;
    let node_1 = node_cpus(1)?;
    let set_online = |online: u32| {
        node_1.iter().try_for_each(|cpu| {
            fs::write(
                format!("/sys/devices/system/cpu/cpu{cpu}/online"),
                online.to_string(),
            )
        })
    };
    starts(SERVER)?;
    for (mode, on_unknown, denied, effect) in [
        ("observe", "deny", false, "logged"),
        ("enforce", "deny", true, "denied"),
        ("enforce", "admit", false, "admitted"),
    ] {
        pin(&node_cpus(0)?)?;
        let_programs_go();
        set_online(0)?;
        let policy = Gate::policy(mode, SERVER, "").replace(
            "[[rule]]",
            &format!("on_unknown = \"{on_unknown}\"\n[[rule]]"),
        );
        let gate = Gate::start(&policy);
        // The daemon would follow.
        let stopped = gate.and_then(|gate| gate.signal(Signal::SIGSTOP).map(|()| gate));
        set_online(1)?;
        let gate = stopped?;
        pin(&node_1)?;
        ensure!(
            launch(&mut command(SERVER))?.is_some() == denied,
            "{mode}, {on_unknown}"
        );
        starts(NEIGHBOUR)?;
        gate.signal(Signal::SIGCONT)?;
        let verdict = gate.verdict()?;
        ensure!(
            verdict.get("verdict") == "unknown" && verdict.effect() == effect,
            "{verdict:?}"
        );
        ensure!(gate.status()?["rules"][0]["unknown"] == 1);
        gate.stop()?;
        starts(SERVER)?;
    }
    Ok(())
}
