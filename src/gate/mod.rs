// SPDX-License-Identifier: GPL-2.0-only
//! The gate in the kernel: load, attach, ask, read events. The only place that touches
//! libbpf-rs for it.

pub mod abi;
pub mod kept;
pub mod order;
pub mod pins;
mod policy_tables;
mod skel;
mod topology_tables;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{
    Iter, Link, MapCore, MapFlags, OpenObject, ProgramInput, ProgramMut, RingBuffer,
    RingBufferBuilder,
};
use nix::time::{ClockId, clock_gettime};
use plain::Plain;

use crate::libbpf_log::Listening;
use crate::policy::Policy;
use crate::topology::Topology;
pub use order::Order;
use policy_tables::PolicyTables;
pub use policy_tables::rule_key;
use skel::{GateSkel, GateSkelBuilder};
use topology_tables::{TopologyTables, node_ids};

/// Compiles a policy for nothing, as fuzzing does.
#[cfg(test)]
pub(crate) fn compile(policy: &Policy) {
    PolicyTables::new(policy, 1).assert_fits();
}

/// Why the gate could not be loaded, attached or asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The topology does not fit the gate's types.
    #[error("this machine's topology does not fit the gate: {0}")]
    Topology(String),
    /// The kernel refused a program, a map or a link.
    #[error("the kernel refused the gate: cannot {what}: {cause}{said}")]
    Kernel {
        /// What was being done.
        what: String,
        /// What libbpf said on the way; empty, or begins a new line.
        said: String,
        /// What it answered.
        cause: libbpf_rs::Error,
    },
    /// The gate could not be pinned.
    #[error(transparent)]
    Pins(#[from] pins::Error),
    /// A program, a map or a record is not as the daemon knows it.
    #[error("the gate answered in a form this daemon does not know ({0}); restart the daemon")]
    Form(&'static str),
}

impl Error {
    /// Turns the kernel's answer to `what` into an error, with what libbpf said on the way.
    fn kernel(heard: &Listening, what: impl Into<String>) -> impl FnOnce(libbpf_rs::Error) -> Self {
        let what = what.into();
        move |cause| Self::Kernel {
            what,
            said: heard.said(),
            cause,
        }
    }
}

/// How a node stands, as a launch there would be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Free cores; `None` if the node is not known to the gate.
    pub free: Option<u32>,
    /// Cores that claims hold.
    pub claimed: u32,
    /// Of these, the ones that their holders do not have now.
    pub owed: u32,
    /// Where that was read.
    pub source: abi::source,
    /// The properties of the loaded sched_ext scheduler, as far as the gate can see them.
    pub scheduler: Option<Scheduler>,
}

/// What the gate knows of the loaded sched_ext scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduler {
    /// It set `SCX_OPS_BUILTIN_IDLE_PER_NODE`.
    pub per_node: bool,
    /// It uses the kernel's built-in idle tracking.
    pub tracking: bool,
}

/// The programs and maps of the gate. Dropping it detaches all that is not pinned.
pub struct Gate<'obj> {
    /// By the names of their programs.
    links: Vec<(String, Link)>,
    events: RingBuffer<'obj>,
    bell: RingBuffer<'obj>,
    inbox: Rc<RefCell<Inbox>>,
    skel: GateSkel<'obj>,
    /// Entries of one half of the maps of nodes, and of cores.
    node_ids: u32,
    cpu_ids: u32,
    held: Half,
    rehearsed: Option<Half>,
}

/// A policy in one half of the maps, which the lowest bit of its generation says.
#[derive(Clone, Copy)]
struct Half {
    settings: abi::settings,
    /// How many rules it has.
    rules: u32,
}

/// A record of the ring buffer.
pub struct Record {
    /// What is known of every launch.
    pub event: abi::event,
    /// What was read only because rules may ask for it.
    pub details: Option<Box<abi::details>>,
}

impl Half {
    fn of(tables: &PolicyTables) -> Self {
        Self {
            settings: tables.settings,
            rules: tables.rules.len() as u32,
        }
    }

    fn number(self) -> u32 {
        self.settings.generation & abi::active::ACTIVE_HALF.0
    }
}

/// What a rehearsal has found so far.
#[derive(Clone, Debug, Default)]
pub struct Rehearsal {
    /// Launches that a rule of either policy is for.
    pub launches: u64,
    /// Of these, how many had which two different outcomes. Rules are given by their numbers in
    /// the policy that holds and in the rehearsed one.
    pub changes: Vec<(abi::change, u64)>,
}

/// The names of rules by the keys that the kernel knows them by.
pub type Names<'a> = HashMap<u64, &'a str>;

/// These names by their keys.
pub fn names<'a>(rules: impl Iterator<Item = &'a str>) -> Names<'a> {
    rules.map(|name| (rule_key(name), name)).collect()
}

#[derive(Default)]
struct Inbox {
    events: VecDeque<Record>,
    ends: Vec<abi::claim_end>,
    short: u64,
}

/// The maps of claims by their names, of a skeleton that is open or loaded.
macro_rules! claim_maps {
    ($maps:expr) => {
        [
            ("claims", &mut $maps.claims),
            ("domains", &mut $maps.domains),
            ("holders", &mut $maps.holders),
            ("honours", &mut $maps.honours),
            ("ledgers", &mut $maps.ledgers),
            ("locks", &mut $maps.locks),
        ]
    };
}

/// Likewise those of what is kept.
macro_rules! kept_maps {
    ($maps:expr) => {
        [
            ("events", &mut $maps.events),
            (pins::SECTION, &mut $maps.data_kept),
        ]
    };
}

impl<'obj> Gate<'obj> {
    /// Loads the gate with a policy and this machine's topology; nothing is attached. The claims
    /// are those of the gate that is pinned, and so are unread events and what root ordered, if their
    /// form is the same.
    ///
    /// # Errors
    ///
    /// See [`Error`]; nothing stays behind.
    pub fn load(
        storage: &'obj mut MaybeUninit<OpenObject>,
        policy: &Policy,
        topology: &Topology,
    ) -> Result<Self, Error> {
        Self::load_with(storage, policy, topology, true)
    }

    /// Loads one that only looks on, whatever gate stands: it has no claims, its policy denies and
    /// holds nothing, and it goes with this process.
    ///
    /// # Errors
    ///
    /// See [`Error`]; nothing stays behind.
    pub fn look_on(
        storage: &'obj mut MaybeUninit<OpenObject>,
        policy: &Policy,
        topology: &Topology,
    ) -> Result<Self, Error> {
        let mut gate = Self::load_with(storage, policy, topology, false)?;
        let heard = Listening::begin();
        let hook = &gate.skel.progs.on_exec;
        let link = hook
            .attach()
            .map_err(Error::kernel(&heard, "attach on_exec"))?;
        gate.links.push(("on_exec".into(), link));
        Ok(gate)
    }

    fn load_with(
        storage: &'obj mut MaybeUninit<OpenObject>,
        policy: &Policy,
        topology: &Topology,
        goes_on: bool,
    ) -> Result<Self, Error> {
        let heard = Listening::begin();
        let (node_ids, cpu_ids) = (node_ids(topology), topology.possible);
        // A claim holds a core at least, a core has a CPU; one more may be on its way to each CPU.
        let claims = 2 * cpu_ids;

        let mut open = GateSkelBuilder::default()
            .open(storage)
            .map_err(Error::kernel(&heard, "open its object"))?;
        for (map, entries) in [
            (&mut open.maps.nodes, 2 * node_ids as usize),
            (&mut open.maps.cores, 2 * cpu_ids as usize),
            (&mut open.maps.core_of, 2 * cpu_ids as usize),
            (&mut open.maps.claims, claims as usize),
            (&mut open.maps.seen, claims as usize),
            (&mut open.maps.domains, claims as usize),
            (&mut open.maps.owed, claims as usize),
            (&mut open.maps.honours, abi::limits::RULES_MAX.0 as usize),
        ] {
            map.set_max_entries(entries.max(1) as u32)
                .map_err(Error::kernel(&heard, "size its maps"))?;
        }
        if goes_on {
            pins::reuse(pins::CLAIMS, &mut claim_maps!(open.maps))?;
            pins::reuse(pins::KEPT, &mut kept_maps!(open.maps))?;
        }
        let rodata = open
            .maps
            .rodata_data
            .as_deref_mut()
            .ok_or(Error::Form("no .rodata"))?;
        rodata.nr_cpu_ids = cpu_ids;
        rodata.nr_nodes = node_ids;
        let skel = open
            .load()
            .map_err(Error::kernel(&heard, "load its programs"))?;
        let inbox = Rc::new(RefCell::new(Inbox::default()));
        let events =
            listen(&skel, &inbox).map_err(Error::kernel(&heard, "open the ring buffer"))?;
        let bell = bell(&skel).map_err(Error::kernel(&heard, "open the ring buffer bell"))?;
        let generation = kept::read(&skel.maps.data_kept)?.generation.wrapping_add(1);
        let tables = PolicyTables::new(policy, generation);
        let mut gate = Self {
            links: Vec::new(),
            events,
            bell,
            inbox,
            skel,
            node_ids,
            cpu_ids,
            held: Half::of(&tables),
            rehearsed: None,
        };
        gate.fill(&tables)?;
        gate.set_active(gate.held.number())?;
        gate.keep_generation()?;
        gate.follow(topology, 0)?;
        Ok(gate)
    }

    /// Lets another policy judge, from one instant on: a launch is judged by the one before or by
    /// this one. The final counts of the one before, by rule. A rehearsal ends.
    ///
    /// # Errors
    ///
    /// See [`Error`]; the one before stays, unless it is said that only its counts could not be
    /// read.
    pub fn replace(&mut self, policy: &Policy) -> Result<Vec<abi::counters>, Error> {
        self.end_rehearsal()?;
        let tables = self.fill_next(policy)?;
        self.turn_to(Half::of(&tables))
    }

    /// Lets launches be judged by another policy too, of which nothing comes but what
    /// [`Gate::rehearsal`] says. One that was rehearsed before is not any more.
    ///
    /// # Errors
    ///
    /// See [`Error`]; nothing is rehearsed then.
    pub fn rehearse(&mut self, policy: &Policy) -> Result<(), Error> {
        self.end_rehearsal()?;
        let tables = self.fill_next(policy)?;
        self.forget_changes()?;
        // A launch that either policy watches has to come as far as the rules.
        let mut settings = self.held.settings;
        settings.watched |= tables.settings.watched;
        settings.unfiltered |= tables.settings.watched;
        self.set_settings(settings)?;
        self.rehearsed = Some(Half::of(&tables));
        self.set_active(self.held.number() | abi::active::ACTIVE_REHEARSING.0)
    }

    /// Lets the rehearsed policy judge, as [`Gate::replace`] does. `None`: there is none.
    ///
    /// # Errors
    ///
    /// See [`Gate::replace`].
    pub fn promote(&mut self) -> Result<Option<Vec<abi::counters>>, Error> {
        let rehearsed = self.rehearsed.take();
        rehearsed.map(|half| self.turn_to(half)).transpose()
    }

    /// Ends a rehearsal, if there is one.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn end_rehearsal(&mut self) -> Result<(), Error> {
        if self.rehearsed.take().is_none() {
            return Ok(());
        }
        self.set_active(self.held.number())?;
        self.set_settings(self.held.settings)?;
        self.settle()
    }

    /// What the rehearsal has found so far. `None`: there is none.
    ///
    /// # Errors
    ///
    /// The map of changes could not be read.
    pub fn rehearsal(&self) -> Result<Option<Rehearsal>, Error> {
        if self.rehearsed.is_none() {
            return Ok(None);
        }
        let bss = self.skel.maps.bss_data.as_ref();
        let launches = abi::live(&bss.ok_or(Error::Form("no .bss"))?.rehearsed);
        let map = &self.skel.maps.changes;
        let mut changes = Vec::new();
        for key in map.keys() {
            let count = lookup(map, &key)?;
            changes.push((
                abi::read(&key).ok_or(Error::Form("changes"))?,
                count
                    .and_then(|count| Some(u64::from_ne_bytes(count.try_into().ok()?)))
                    .ok_or(Error::Form("changes"))?,
            ));
        }
        Ok(Some(Rehearsal { launches, changes }))
    }

    /// Forgets what a rehearsal has found; there is none now.
    fn forget_changes(&mut self) -> Result<(), Error> {
        let heard = Listening::begin();
        let map = &self.skel.maps.changes;
        let keys: Vec<_> = map.keys().collect();
        for key in keys {
            map.delete(&key)
                .map_err(Error::kernel(&heard, "empty the map changes"))?;
        }
        self.bss()?.rehearsed = 0;
        Ok(())
    }

    /// The number of the policy that judges; counts up from 1, and on over daemons.
    pub fn generation(&self) -> u32 {
        self.held.settings.generation
    }

    /// Compiles the next policy, and writes it into the half that does not hold.
    fn fill_next(&mut self, policy: &Policy) -> Result<PolicyTables, Error> {
        let tables = PolicyTables::new(policy, self.generation().wrapping_add(1));
        self.fill(&tables)?;
        Ok(tables)
    }

    /// Writes a policy into its half of the maps, by which no program goes: it has never held, or
    /// [`Gate::settle`] was called since.
    fn fill(&mut self, tables: &PolicyTables) -> Result<(), Error> {
        let heard = Listening::begin();
        let half = Half::of(tables).number();
        let maps = &mut self.skel.maps;
        let put = |map: &dyn MapCore, entries: &[u8]| put_batch(map, half, entries, &heard);
        put(&maps.strings, abi::bytes(&tables.strings[..]))?;
        put(&maps.pool, abi::bytes(&tables.pool[..]))?;
        put(&maps.suffixes, abi::bytes(&tables.suffixes[..]))?;
        put(&maps.keys, abi::bytes(&tables.keys[..]))?;
        put(&maps.candidates, abi::bytes(&tables.candidates[..]))?;
        put(&maps.literals, abi::bytes(&tables.literals[..]))?;
        put(&maps.rules, abi::bytes(&tables.rules[..]))?;
        let counters = vec![abi::counters::default(); tables.rules.len()];
        put(&maps.counters, abi::bytes(&counters[..]))?;
        let bss = maps.bss_data.as_deref_mut().ok_or(Error::Form("no .bss"))?;
        bss.settings[half as usize] = tables.settings;
        let lengths = half as usize * tables.lengths.len();
        bss.lengths[lengths..][..tables.lengths.len()].copy_from_slice(&tables.lengths);
        bss.name_filter[half as usize] = *tables.name_filter;
        Ok(())
    }

    /// Lets a half that was filled hold, and returns the final counts of the other one.
    fn turn_to(&mut self, half: Half) -> Result<Vec<abi::counters>, Error> {
        self.set_active(half.number())?;
        let before = std::mem::replace(&mut self.held, half);
        self.keep_generation()?;
        self.settle()?;
        (0..before.rules)
            .map(|rule| self.counters_of(before, rule))
            .collect()
    }

    /// Says by which half launches are judged from now on, and whether by the other one too. All
    /// that was written before is seen by them.
    fn set_active(&mut self, active: u32) -> Result<(), Error> {
        let bss = self.bss()?;
        fence(Ordering::SeqCst);
        bss.active = active;
        fence(Ordering::SeqCst);
        Ok(())
    }

    fn set_settings(&mut self, settings: abi::settings) -> Result<(), Error> {
        let half = settings.generation & abi::active::ACTIVE_HALF.0;
        self.bss()?.settings[half as usize] = settings;
        Ok(())
    }

    fn bss(&mut self) -> Result<&mut skel::types::bss, Error> {
        let bss = self.skel.maps.bss_data.as_deref_mut();
        bss.ok_or(Error::Form("no .bss"))
    }

    /// The next daemon counts on from it.
    fn keep_generation(&self) -> Result<(), Error> {
        let generation = self.generation().to_ne_bytes();
        kept::write(self.kept(), offset_of!(abi::kept, generation), &generation)
    }

    /// Says that the gate is looked after.
    ///
    /// # Errors
    ///
    /// The gate is of another form, or the kernel has no such clock.
    pub fn beat(&mut self) -> Result<(), Error> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
        let now = now.map_err(|_| Error::Form("CLOCK_MONOTONIC"))?;
        self.bss()?.beat = Duration::from(now).as_nanos() as u64;
        Ok(())
    }

    /// Where what root orders is kept; see [`order`].
    pub fn kept(&self) -> &dyn MapCore {
        &self.skel.maps.data_kept
    }

    /// Waits until each launch that had begun to be judged has its verdict.
    fn settle(&self) -> Result<(), Error> {
        let heard = Listening::begin();
        let inner = self.skel.maps.turn_inner.as_fd().as_raw_fd();
        putting(&heard)(
            &self.skel.maps.turn,
            &0u32.to_ne_bytes(),
            &inner.to_ne_bytes(),
        )
    }

    /// How many CPUs have come online that the gate did not know. While it is another number than
    /// what [`Gate::follow`] was told, each verdict is `unknown`.
    ///
    /// # Errors
    ///
    /// The gate is of another form.
    pub fn newcomers(&self) -> Result<u32, Error> {
        let bss = self.skel.maps.bss_data.as_ref();
        Ok(abi::live(&bss.ok_or(Error::Form("no .bss"))?.newcomers))
    }

    /// Lets the gate know this topology, which was read after [`Gate::newcomers`] had said so
    /// many. A CPU that is offline may be part of it. Launches see the one before or this one.
    ///
    /// # Errors
    ///
    /// See [`Error`]; the one before stays.
    pub fn follow(&mut self, topology: &Topology, newcomers: u32) -> Result<(), Error> {
        let heard = Listening::begin();
        let tables = TopologyTables::new(topology).map_err(Error::Topology)?;
        let maps = &mut self.skel.maps;
        let bss = maps.bss_data.as_deref_mut().ok_or(Error::Form("no .bss"))?;
        let version = bss.topology.version.wrapping_add(1);
        let half = version & 1;
        let put = putting(&heard);
        put_all(&maps.nodes, half * self.node_ids, &tables.nodes, &put)?;
        put_all(&maps.cores, half * self.cpu_ids, &tables.cores, &put)?;
        put_all(&maps.core_of, half * self.cpu_ids, &tables.core_of, &put)?;
        bss.topology.nr_cores[half as usize] = tables.cores.len() as u32;
        fence(Ordering::SeqCst);
        bss.topology.version = version;
        fence(Ordering::SeqCst);
        bss.topology.newcomers = newcomers;
        Ok(())
    }

    /// Attaches all hooks, or none, in place of the gate that is pinned; `stays`: this one is pinned
    /// then, and stays when this process ends.
    ///
    /// # Errors
    ///
    /// The hook that the kernel refused, or why the gate could not be pinned; none is attached then.
    pub fn attach(&mut self, stays: bool) -> Result<(), Error> {
        if stays {
            pins::can_stay()?;
        }
        let heard = Listening::begin();
        let progs = &self.skel.progs;
        // Those that judge come last: no launch may take a claim that nobody gives back.
        let hooks = [
            &progs.on_cpu,
            &progs.on_task_free,
            &progs.on_exit,
            &progs.on_exec_failed,
            &progs.on_exec_done,
            &progs.on_fork,
            &progs.on_exec,
        ];
        let mut links = hooks
            .into_iter()
            .map(|hook| {
                let name = hook.name().to_string_lossy().into_owned();
                let link = hook
                    .attach()
                    .map_err(Error::kernel(&heard, format!("attach {name}")))?;
                Ok((name, link))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        if stays {
            pins::pin(
                &mut links,
                &mut [
                    (pins::CLAIMS, &mut claim_maps!(self.skel.maps)),
                    (pins::KEPT, &mut kept_maps!(self.skel.maps)),
                ],
            )?;
        } else {
            pins::detach()?;
        }
        self.links = links;
        Ok(())
    }

    /// The number of attached hooks.
    pub fn hooks(&self) -> usize {
        self.links.len()
    }

    /// Readable when events wait.
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.skel.maps.events.as_fd()
    }

    /// Takes events that wait, at most [`BATCH`], so that the caller is not kept from
    /// everything else by a storm.
    ///
    /// # Errors
    ///
    /// The ring buffer could not be read.
    pub fn take_events(&self) -> Result<Vec<Record>, Error> {
        let taken = self.events.consume_raw_n(BATCH);
        if taken < 0 {
            return Err(Error::Kernel {
                what: "read the ring buffer".into(),
                said: String::new(),
                cause: libbpf_rs::Error::from_raw_os_error(-taken),
            });
        }
        Ok(self.inbox.borrow_mut().events.drain(..).collect())
    }

    /// The claims that have ended, as far as they were read along with the events.
    pub fn take_ends(&self) -> Vec<abi::claim_end> {
        std::mem::take(&mut self.inbox.borrow_mut().ends)
    }

    /// Whether somebody waits for a claim to end: only then the bell rings.
    ///
    /// # Errors
    ///
    /// The gate is of another form.
    pub fn set_awaited(&mut self, awaited: bool) -> Result<(), Error> {
        self.bss()?.awaited = awaited.into();
        Ok(())
    }

    /// Readable when a claim has ended, while that is awaited.
    pub fn bell_fd(&self) -> BorrowedFd<'_> {
        self.skel.maps.bell.as_fd()
    }

    /// Lets the bell be silent until it rings again.
    pub fn quiet_bell(&self) {
        // It says nothing but that it rang.
        let _ = self.bell.consume();
    }

    /// Asks how a node stands now.
    ///
    /// # Errors
    ///
    /// The kernel did not run the program that answers.
    pub fn survey(&self, node: u32) -> Result<Survey, Error> {
        let asked = abi::survey {
            node,
            ..Default::default()
        };
        let answer = ask(&self.skel.progs.survey, &asked)?;
        Ok(Survey {
            free: (answer.known != 0).then_some(answer.cores_free),
            claimed: answer.cores_claimed,
            owed: answer.cores_owed,
            source: answer.source,
            scheduler: (answer.scheduler != 0).then_some(Scheduler {
                per_node: answer.per_node != 0,
                tracking: answer.tracking != 0,
            }),
        })
    }

    /// What the core with this number does now; `None`: there is none.
    ///
    /// # Errors
    ///
    /// The kernel did not run the program that answers.
    pub fn picture(&self, core: u32) -> Result<Option<abi::picture>, Error> {
        let asked = abi::picture {
            core,
            ..Default::default()
        };
        let drawn = ask(&self.skel.progs.draw, &asked)?;
        Ok((drawn.nr_cpus > 0).then_some(drawn))
    }

    /// The live claims, and whose they are.
    ///
    /// # Errors
    ///
    /// The kernel did not go through its tasks.
    pub fn live_claims(&self) -> Result<Vec<abi::live_claim>, Error> {
        let failed = |said: String, cause| Error::Kernel {
            what: "list the claims".into(),
            said,
            cause,
        };
        let heard = Listening::begin();
        let link = self.skel.progs.list_claims.attach();
        let link = link.map_err(|cause| failed(heard.said(), cause))?;
        let mut bytes = Vec::new();
        Iter::new(&link)
            .and_then(|mut iter| Ok(iter.read_to_end(&mut bytes)?))
            .map_err(|cause| failed(heard.said(), cause))?;
        let claims = bytes.chunks(size_of::<abi::live_claim>());
        claims
            .map(|claim| abi::read(claim).ok_or(Error::Form("list_claims")))
            .collect()
    }

    /// The exact counts of the rule with this number.
    ///
    /// # Errors
    ///
    /// There is no such rule.
    pub fn counters(&self, rule: u32) -> Result<abi::counters, Error> {
        self.counters_of(self.held, rule)
    }

    fn counters_of(&self, half: Half, rule: u32) -> Result<abi::counters, Error> {
        let first = half.number() * abi::limits::RULES_MAX.0;
        let value = entry(&self.skel.maps.counters, first + rule)?;
        value
            .as_deref()
            .and_then(abi::read)
            .ok_or(Error::Form("counters"))
    }

    /// By the names of rules, how many live claims there are; those of rules that are not among these
    /// any more are left out.
    ///
    /// # Errors
    ///
    /// The claims could not be read.
    pub fn claims<'a>(&self, names: &Names<'a>) -> Result<HashMap<&'a str, u64>, Error> {
        let mut claims = HashMap::new();
        for head in self.claim_heads()? {
            if let Some(&name) = names.get(&head.rule) {
                *claims.entry(name).or_default() += 1;
            }
        }
        Ok(claims)
    }

    /// How the live claims begin.
    ///
    /// # Errors
    ///
    /// The claims could not be read.
    pub fn claim_heads(&self) -> Result<Vec<abi::claim_head>, Error> {
        let mut live = Vec::new();
        for slot in 0..self.skel.maps.claims.max_entries() {
            let value = entry(&self.skel.maps.claims, slot)?;
            let head: abi::claim_head = value
                .as_deref()
                .and_then(|value| abi::read(value.get(..size_of::<abi::claim_head>())?))
                .ok_or(Error::Form("claims"))?;
            if head.id != 0 {
                live.push(head);
            }
        }
        Ok(live)
    }

    /// By the names of rules, how often their programs were seen alone on their cores, and how often
    /// not; rules of which no program was seen, and those that are not among these any more, are left
    /// out.
    ///
    /// # Errors
    ///
    /// The map could not be read.
    pub fn honours<'a>(&self, names: &Names<'a>) -> Result<HashMap<&'a str, abi::honour>, Error> {
        let map = &self.skel.maps.honours;
        let mut honours = HashMap::new();
        for key in map.keys() {
            let rule = u64::from_ne_bytes(key[..].try_into().map_err(|_| Error::Form("honours"))?);
            let (Some(&name), Some(value)) = (names.get(&rule), lookup(map, &key)?) else {
                continue;
            };
            honours.insert(name, abi::read(&value).ok_or(Error::Form("honours"))?);
        }
        Ok(honours)
    }

    /// What the gate did not manage to do, and the records this process could not read.
    ///
    /// # Errors
    ///
    /// They could not be read.
    pub fn failures(&self) -> Result<(abi::failures, u64), Error> {
        let failures = kept::read(self.kept())?.failures;
        Ok((failures, self.inbox.borrow().short))
    }
}

/// How many events are taken at once.
pub const BATCH: usize = 256;

/// More events than the ring buffer has room for.
pub const RING_EVENTS: usize = RING_BYTES / size_of::<abi::event>();

/// The size of the ring buffer `events`.
const RING_BYTES: usize = abi::limits::RING_BYTES.0 as usize;

/// Asks a program that answers in what it is asked with.
fn ask<T: Plain + Copy + Default>(program: &ProgramMut<'_>, question: &T) -> Result<T, Error> {
    let mut context = abi::bytes(question).to_vec();
    let input = ProgramInput {
        context_in: Some(&mut context),
        ..Default::default()
    };
    let name = || program.name().to_string_lossy().into_owned();
    program.test_run(input).map_err(|cause| Error::Kernel {
        what: format!("run the program {}", name()),
        said: String::new(),
        cause,
    })?;
    abi::read(&context).ok_or(Error::Form("an answer"))
}

/// Puts a value into a map.
fn putting(heard: &Listening) -> impl Fn(&dyn MapCore, &[u8], &[u8]) -> Result<(), Error> {
    |map, key, value| {
        map.update(key, value, MapFlags::ANY).map_err(Error::kernel(
            heard,
            format!("fill the map {}", map.name().display()),
        ))
    }
}

/// The bytes of an array's entry.
fn entry(map: &dyn MapCore, number: u32) -> Result<Option<Vec<u8>>, Error> {
    lookup(map, &number.to_ne_bytes())
}

/// The bytes of a map's entry.
fn lookup(map: &dyn MapCore, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    map.lookup(key, MapFlags::ANY)
        .map_err(|cause| Error::Kernel {
            what: format!("read the map {}", map.name().display()),
            said: String::new(),
            cause,
        })
}

/// Puts entries into the beginning of a half of an array: in its memory, as a call for each of some
/// 100,000 would take a third of a reload.
fn put_batch(map: &dyn MapCore, half: u32, entries: &[u8], heard: &Listening) -> Result<(), Error> {
    let offset = half * (map.max_entries() / 2) * map.value_size();
    abi::write(map.as_fd(), offset as usize, entries)
        .map_err(libbpf_rs::Error::from)
        .map_err(Error::kernel(
            heard,
            format!("fill the map {}", map.name().display()),
        ))
}

/// Puts values into an array, one after the other.
fn put_all<T: plain::Plain>(
    map: &dyn MapCore,
    first: u32,
    values: &[T],
    put: impl Fn(&dyn MapCore, &[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    (first..)
        .zip(values)
        .try_for_each(|(i, value)| put(map, &i.to_ne_bytes(), abi::bytes(value)))
}

fn listen<'obj>(
    skel: &GateSkel<'obj>,
    inbox: &Rc<RefCell<Inbox>>,
) -> libbpf_rs::Result<RingBuffer<'obj>> {
    let inbox = Rc::clone(inbox);
    let mut builder = RingBufferBuilder::new();
    builder.add(&skel.maps.events, move |record| {
        let mut inbox = inbox.borrow_mut();
        if record.len() == size_of::<abi::claim_end>() {
            inbox.ends.extend(abi::read::<abi::claim_end>(record));
            return 0;
        }
        match abi::read(record) {
            Some(event) => inbox.events.push_back(Record {
                event,
                details: abi::read(&record[size_of::<abi::event>()..]).map(Box::new),
            }),
            None => inbox.short += 1,
        }
        0
    })?;
    builder.build()
}

fn bell<'obj>(skel: &GateSkel<'obj>) -> libbpf_rs::Result<RingBuffer<'obj>> {
    let mut builder = RingBufferBuilder::new();
    builder.add(&skel.maps.bell, |_| 0)?;
    builder.build()
}
