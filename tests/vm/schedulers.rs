// SPDX-License-Identifier: GPL-2.0-only
//! Schedulers that differ in their idle tracking, one that takes sub-schedulers, and what the
//! kernel says became of them.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::mem::MaybeUninit;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coregate::kernel::takes;
use libbpf_rs::btf::Btf;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapMut, OpenObject};

use crate::gate::Gate;
use crate::machine::wait_for;
use crate::skel::schedulers::{SchedulersSkel, SchedulersSkelBuilder};

/// How a scheduler tracks idle CPUs, and with that which source the gate must use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracking {
    PerNode,
    Flat,
    None,
}

impl Tracking {
    pub(crate) const ALL: [Self; 3] = [Self::PerNode, Self::Flat, Self::None];

    /// The gate's word for the source that suits it.
    pub(crate) fn source(self) -> &'static str {
        match self {
            Self::PerNode => "node",
            Self::Flat => "flat",
            Self::None => "runqueue",
        }
    }
}

/// Whether this kernel's schedulers may take sub-schedulers.
fn takes_sub_schedulers() -> Result<bool> {
    let btf = std::fs::read("/sys/kernel/btf/vmlinux")?;
    Ok(btf
        .split(|byte| *byte == 0)
        .any(|name| name == b"sched_ext_ops_cid"))
}

/// Whether this kernel takes calls of the function by which a scheduler loses idle CPUs. Some
/// builds refuse them: bpf/compat.h.
fn takes_the_loss_of_idle_cpus() -> Result<bool> {
    let name = "scx_bpf_test_and_clear_cpu_idle";
    Ok(takes(&Btf::from_vmlinux()?, (name, 1)))
}

/// The maps of the schedulers, of which none is loaded. The kernel takes the one called parent
/// from 7.2 on, and not in each build the one called careless.
pub(crate) fn schedulers(storage: &mut MaybeUninit<OpenObject>) -> Result<SchedulersSkel<'_>> {
    let mut open = SchedulersSkelBuilder::default().open(storage)?;
    let takes_sub_schedulers = takes_sub_schedulers()?;
    open.maps.parent.set_autocreate(takes_sub_schedulers)?;
    open.maps.arena.set_autocreate(takes_sub_schedulers)?;
    open.maps
        .careless
        .set_autocreate(takes_the_loss_of_idle_cpus()?)?;
    open.load().context("cannot load the schedulers")
}

/// A loaded scheduler; dropping it gives the machine back to the kernel's own.
pub(crate) struct Scheduler {
    _link: Link,
}

impl Scheduler {
    /// Loads one; it is in force then.
    pub(crate) fn load(tracking: Tracking) -> Result<Self> {
        // The link keeps the scheduler, so the object need not outlive this function.
        let mut storage = MaybeUninit::uninit();
        let mut skel = schedulers(&mut storage)?;
        Self::attach(match tracking {
            Tracking::PerNode => &mut skel.maps.per_node,
            Tracking::Flat => &mut skel.maps.flat,
            Tracking::None => &mut skel.maps.untracked,
        })
    }

    /// Loads that of a map; it is in force then. It can be loaded again when it is gone.
    pub(crate) fn attach(map: &mut MapMut<'_>) -> Result<Self> {
        let link = map
            .attach_struct_ops()
            .context("cannot attach a scheduler")?;
        // Attaching ends when the scheduler is in force, so one that is not was ejected.
        ensure!(state() == "enabled", "the scheduler is {}", state());
        Ok(Self { _link: link })
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if let Err(error) = self._link.detach() {
            eprintln!("cannot detach the scheduler: {error}");
        }
    }
}

/// How long a mask is not believed after its scheduler was first seen, and some more.
const SETTLED: Duration = Duration::from_millis(600);

/// How long after a scheduler is said to be enabled the kernel may not have counted it yet (scx_enable_seq).
const COUNTED: Duration = Duration::from_millis(100);

/// Waits until the gate believes the masks of the scheduler that was just loaded.
pub(crate) fn settle(gate: &Gate) -> Result<()> {
    std::thread::sleep(COUNTED);
    gate.status()?;
    std::thread::sleep(SETTLED);
    Ok(())
}

/// `enabled`, `disabled` or a state between.
pub(crate) fn state() -> String {
    std::fs::read_to_string("/sys/kernel/sched_ext/state")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Waits until no scheduler is loaded.
pub(crate) fn wait_until_none() -> Result<()> {
    wait_for("no scheduler is loaded", Duration::from_secs(20), || {
        state() == "disabled"
    })
}

/// The kernel's log from now on.
pub(crate) struct KernelLog(File);

impl KernelLog {
    pub(crate) fn from_now() -> Result<Self> {
        let mut log = Self(
            OpenOptions::new()
                .read(true)
                .custom_flags(nix::libc::O_NONBLOCK)
                .open("/dev/kmsg")
                .context("cannot open /dev/kmsg")?,
        );
        log.lines()?;
        Ok(log)
    }

    /// The lines since the last call.
    pub(crate) fn lines(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(len) => lines.push(String::from_utf8_lossy(&record[..len]).into_owned()),
                // Records were overwritten before they were read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(lines),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// How schedulers ended, by the kernel's log (scx_disable_workfn(), kernel/sched/ext.c).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    /// By us.
    pub(crate) unregistered: usize,
    /// Otherwise: the lines that say how.
    pub(crate) harmed: Vec<String>,
}

impl Ends {
    pub(crate) fn read(log: &mut KernelLog) -> Result<Self> {
        let mut ends = Self::default();
        for line in log.lines()? {
            if !line.contains("sched_ext: BPF scheduler") || !line.contains(" disabled") {
                continue;
            }
            if line.contains("unregistered from user space") {
                ends.unregistered += 1;
            } else {
                ends.harmed.push(line);
            }
        }
        Ok(ends)
    }
}
