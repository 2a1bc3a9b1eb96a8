// SPDX-License-Identifier: GPL-2.0-only
//! The scheduler in the kernel: the only place here that touches libbpf.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::ptr;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, OpenObject};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;

use super::claims::Claims;
use super::skel::{CompanionSkel, CompanionSkelBuilder, OpenCompanionSkel, types};
use super::{Config, Error, ScxExit, exit, preflight};
use crate::libbpf_log::Listening;
use crate::raw;
use crate::topology::{SYSFS, Topology};

/// Where libbpf keeps a loaded object.
pub(super) type Room = MaybeUninit<OpenObject>;

/// The loaded scheduler. Dropped, it leaves the kernel.
pub(super) struct Scheduler<'room> {
    link: Option<Link>,
    /// Of what sees every switch.
    switches: Option<Link>,
    claims: Claims,
    skel: CompanionSkel<'room>,
}

/// What ended the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    Signal,
    /// The scheduler has left.
    Left,
    /// The gate's claims are others.
    Claims,
}

/// How long the gate's pins are left alone before they are looked at: it makes them one by one.
const PINNED_MS: u16 = 300;

impl<'room> Scheduler<'room> {
    /// Loads the scheduler, without putting it in charge.
    pub(super) fn load(config: &Config, room: &'room mut Room) -> Result<Self, Error> {
        // Before the topology is read: if that changes meanwhile, the kernel
        // sees that this number is old and asks for a new start.
        let hotplug_seq = preflight::hotplug_seq()?;
        let topology = Topology::read(Path::new(SYSFS))?;
        let types = preflight::kernel_types()?;
        let flags = preflight::ops_flags(&types)?;
        preflight::kfuncs(&types)?;
        let heard = Listening::begin();
        let mut open = CompanionSkelBuilder::default()
            .open(room)
            .map_err(Error::kernel(&heard, "open"))?;
        // SAFETY: the skeleton points to libbpf's copy of `companion`, which
        // lives as long as the open object; nothing else refers to it now.
        let ops = unsafe { &mut *open.struct_ops.companion };
        ops.flags = flags;
        ops.hotplug_seq = hotplug_seq;
        if !preflight::has_cgroups(&types) {
            // libbpf refuses what the kernel has no place for.
            ops.cgroup_init = ptr::null_mut();
            ops.cgroup_exit = ptr::null_mut();
            ops.cgroup_move = ptr::null_mut();
            ops.cgroup_set_weight = ptr::null_mut();
        }
        configure(&mut open, config, &topology).map_err(Error::kernel(&heard, "configure"))?;
        let maps = &mut open.maps;
        let claims = Claims::share([&mut maps.claims, &mut maps.holders, &mut maps.honours])?;
        let skel = open.load().map_err(Error::kernel(&heard, "load"))?;
        for (number, cpu) in cpus(&topology)? {
            skel.maps
                .cpus
                .update(&number.to_ne_bytes(), raw::bytes(&cpu), MapFlags::ANY)
                .map_err(Error::kernel(&heard, "configure"))?;
        }
        Ok(Self {
            link: None,
            switches: None,
            claims,
            skel,
        })
    }

    /// Puts the scheduler in charge.
    pub(super) fn attach(&mut self) -> Result<(), Error> {
        let heard = Listening::begin();
        let link = self
            .skel
            .maps
            .companion
            .attach_struct_ops()
            .map_err(Error::kernel(&heard, "attach"))?;
        self.link = Some(link);
        let switches = self.skel.progs.companion_switch.attach();
        self.switches = Some(switches.map_err(Error::kernel(&heard, "attach"))?);
        Ok(())
    }

    /// Whether it reads a gate's claims.
    pub(super) fn has_gate(&self) -> bool {
        self.claims.are_shared()
    }

    /// Sleeps until a signal arrives, the scheduler leaves, or the gate's claims are others.
    pub(super) fn wait(&self, signals: &SignalFd) -> Result<Woken, Error> {
        self.wait_for_one(signals)
            .map_err(Error::system("wait for the scheduler"))
    }

    fn wait_for_one(&self, signals: &SignalFd) -> nix::Result<Woken> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let sources: [(BorrowedFd<'_>, Woken); 3] = [
            (signals.as_fd(), Woken::Signal),
            (self.skel.maps.bell.as_fd(), Woken::Left),
            (self.claims.as_fd(), Woken::Claims),
        ];
        for (source, woken) in sources {
            epoll.add(source, EpollEvent::new(EpollFlags::EPOLLIN, woken as u64))?;
        }
        let mut timeout = EpollTimeout::NONE;
        loop {
            let mut event = [EpollEvent::empty()];
            match epoll.wait(&mut event, timeout) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
                Ok(0) if self.claims.are_others() => return Ok(Woken::Claims),
                Ok(0) => timeout = EpollTimeout::NONE,
                Ok(_) if event[0].data() == Woken::Signal as u64 => return Ok(Woken::Signal),
                Ok(_) if event[0].data() == Woken::Left as u64 => return Ok(Woken::Left),
                Ok(_) => {
                    self.claims.stir();
                    timeout = PINNED_MS.into();
                }
            }
        }
    }

    /// Takes the scheduler out, if it is still in, and says why it left.
    pub(super) fn detach(mut self) -> ScxExit {
        // The kernel is back on its own scheduler, and the farewell written,
        // when this returns (bpf_scx_unreg(), kernel/sched/ext.c).
        drop((self.link.take(), self.switches.take()));
        let farewell = self.skel.maps.bss_data.as_ref().map(|bss| &bss.farewell);
        farewell
            .and_then(exit::read)
            .unwrap_or(ScxExit::Unregistered)
    }
}

/// Tells the scheduler what is fixed for its life.
fn configure(
    open: &mut OpenCompanionSkel<'_>,
    config: &Config,
    topology: &Topology,
) -> Result<(), libbpf_rs::Error> {
    let nodes = topology.nodes.last().map_or(1, |node| node.id + 1);
    open.maps.cpus.set_max_entries(topology.possible)?;
    open.maps.nodes.set_max_entries(nodes)?;
    open.maps.alarms.set_max_entries(topology.possible)?;
    open.maps.patience.set_max_entries(topology.possible)?;
    open.maps.spares.set_max_entries(topology.possible)?;
    let Some(rodata) = open.maps.rodata_data.as_deref_mut() else {
        return Ok(());
    };
    let invalid = |_| libbpf_rs::Error::from_raw_os_error(Errno::EOVERFLOW as i32);
    rodata.slice_ns = u64::try_from(config.slice.as_nanos()).map_err(invalid)?;
    rodata.slice_min_ns = rodata.slice_min_ns.min(rodata.slice_ns);
    rodata.nr_cpus = i32::try_from(topology.possible).map_err(invalid)?;
    rodata.nr_nodes = i32::try_from(nodes).map_err(invalid)?;
    for node in &topology.nodes {
        // A claim lies on no other nodes.
        if let Some(open) = rodata.open_cores.get_mut(node.id as usize) {
            *open = config.reserve.cores(node.cores.len()) as u32;
        }
    }
    Ok(())
}

/// What the scheduler is told of each online CPU.
fn cpus(topology: &Topology) -> Result<Vec<(u32, types::cpu)>, Error> {
    let mut all = Vec::new();
    for node in &topology.nodes {
        for core in &node.cores {
            let mut cpu = types::cpu {
                node: node.id,
                ..types::cpu::default()
            };
            let most = cpu.thread.len();
            let known = cpu.thread.get_mut(..core.cpus.len());
            let too_many = || Error::Threads {
                leader: core.leader(),
                threads: core.cpus.len(),
                most,
            };
            known.ok_or_else(too_many)?.copy_from_slice(&core.cpus);
            cpu.threads = u32::try_from(core.cpus.len()).unwrap_or(u32::MAX);
            all.extend(core.cpus.iter().map(|&number| (number, cpu)));
        }
    }
    Ok(all)
}

raw::plain_types! {
    types::cpu: 176,
}
