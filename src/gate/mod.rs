// SPDX-License-Identifier: GPL-2.0-only
//! The gate in the kernel: load, attach, ask, read events. The only place that touches
//! libbpf-rs for it.

pub mod abi;
pub mod pins;
mod skel;
mod tables;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, OpenObject, ProgramInput, RingBuffer, RingBufferBuilder};

use crate::libbpf_log::Listening;
use crate::policy::Policy;
use crate::topology::Topology;
use skel::{GateSkel, GateSkelBuilder};
use tables::{PolicyTables, TopologyTables, node_ids, rule_key};

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
    inbox: Rc<RefCell<Inbox>>,
    skel: GateSkel<'obj>,
    /// Entries of one half of the maps of nodes, and of cores.
    node_ids: u32,
    cpu_ids: u32,
}

#[derive(Default)]
struct Inbox {
    events: VecDeque<abi::event>,
    short: u64,
}

/// The maps of claims by their names, of a skeleton that is open or loaded.
macro_rules! claim_maps {
    ($maps:expr) => {
        [
            ("claims", &mut $maps.claims),
            ("domains", &mut $maps.domains),
            ("holders", &mut $maps.holders),
            ("ledgers", &mut $maps.ledgers),
            ("locks", &mut $maps.locks),
        ]
    };
}

impl<'obj> Gate<'obj> {
    /// Loads the gate with a policy and this machine's topology; nothing is attached. The claims
    /// are those of the gate that is pinned, if their form is the same.
    ///
    /// # Errors
    ///
    /// See [`Error`]; nothing stays behind.
    pub fn load(
        storage: &'obj mut MaybeUninit<OpenObject>,
        policy: &Policy,
        topology: &Topology,
    ) -> Result<Self, Error> {
        let heard = Listening::begin();
        let policy = PolicyTables::new(policy, FIRST_GENERATION);
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
            (&mut open.maps.exes, policy.exes.len()),
            (&mut open.maps.launches, policy.launches.len()),
            (&mut open.maps.rules, policy.rules.len()),
            (&mut open.maps.counters, policy.rules.len()),
        ] {
            map.set_max_entries(entries.max(1) as u32)
                .map_err(Error::kernel(&heard, "size its maps"))?;
        }
        pins::reuse(&mut claim_maps!(open.maps))?;
        let rodata = open
            .maps
            .rodata_data
            .as_deref_mut()
            .ok_or(Error::Form("no .rodata"))?;
        rodata.nr_cpu_ids = cpu_ids;
        rodata.nr_nodes = node_ids;
        rodata.watched = policy.watched;
        let bss = open
            .maps
            .bss_data
            .as_deref_mut()
            .ok_or(Error::Form("no .bss"))?;
        bss.settings = policy.settings;
        bss.name_filter = *policy.name_filter;

        let skel = open
            .load()
            .map_err(Error::kernel(&heard, "load its programs"))?;
        let put = putting(&heard);
        put_all(&skel.maps.rules, 0, &policy.rules, &put)?;
        for (hash, exe) in &policy.exes {
            put(&skel.maps.exes, &hash.to_ne_bytes(), abi::bytes(exe))?;
        }
        for (key, number) in &policy.launches {
            put(&skel.maps.launches, abi::bytes(key), &number.to_ne_bytes())?;
        }
        let inbox = Rc::new(RefCell::new(Inbox::default()));
        let events =
            listen(&skel, &inbox).map_err(Error::kernel(&heard, "open the ring buffer"))?;
        let mut gate = Self {
            links: Vec::new(),
            events,
            inbox,
            skel,
            node_ids,
            cpu_ids,
        };
        gate.follow(topology, 0)?;
        Ok(gate)
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
            pins::pin(&mut links, &mut claim_maps!(self.skel.maps))?;
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
    pub fn take_events(&self) -> Result<Vec<abi::event>, Error> {
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

    /// Asks how a node stands now.
    ///
    /// # Errors
    ///
    /// The kernel did not run the program that answers.
    pub fn survey(&self, node: u32) -> Result<Survey, Error> {
        let mut context = abi::bytes(&abi::survey {
            node,
            ..Default::default()
        })
        .to_vec();
        let input = ProgramInput {
            context_in: Some(&mut context),
            ..Default::default()
        };
        self.skel
            .progs
            .survey
            .test_run(input)
            .map_err(|cause| Error::Kernel {
                what: "run the program survey".into(),
                said: String::new(),
                cause,
            })?;
        let answer: abi::survey = abi::read(&context).ok_or(Error::Form("survey"))?;
        Ok(Survey {
            free: (answer.known != 0).then_some(answer.cores_free),
            claimed: answer.cores_claimed,
            source: answer.source,
            scheduler: (answer.scheduler != 0).then_some(Scheduler {
                per_node: answer.per_node != 0,
                tracking: answer.tracking != 0,
            }),
        })
    }

    /// The exact counts of the rule with this number.
    ///
    /// # Errors
    ///
    /// There is no such rule.
    pub fn counters(&self, rule: u32) -> Result<abi::counters, Error> {
        let value = entry(&self.skel.maps.counters, rule)?;
        value
            .as_deref()
            .and_then(abi::read)
            .ok_or(Error::Form("counters"))
    }

    /// By the names of rules, how many live claims there are; those of rules that are not in the
    /// policy any more are left out.
    ///
    /// # Errors
    ///
    /// The claims could not be read.
    pub fn claims<'a>(
        &self,
        rules: impl Iterator<Item = &'a str>,
    ) -> Result<HashMap<&'a str, u64>, Error> {
        let names: HashMap<u64, &str> = rules.map(|name| (rule_key(name), name)).collect();
        let mut claims = HashMap::new();
        for slot in 0..self.skel.maps.claims.max_entries() {
            let value = entry(&self.skel.maps.claims, slot)?;
            let head: abi::claim_head = value
                .as_deref()
                .and_then(|value| abi::read(value.get(..size_of::<abi::claim_head>())?))
                .ok_or(Error::Form("claims"))?;
            if head.id != 0
                && let Some(&name) = names.get(&head.rule)
            {
                *claims.entry(name).or_default() += 1;
            }
        }
        Ok(claims)
    }

    /// What the gate did not manage to do, and the records this process could not read.
    pub fn failures(&self) -> (abi::failures, u64) {
        let failures = self
            .skel
            .maps
            .bss_data
            .as_ref()
            .map_or_else(Default::default, |bss| abi::live(&bss.failures));
        (failures, self.inbox.borrow().short)
    }
}

/// The generation of the policy that a gate starts with.
pub const FIRST_GENERATION: u32 = 1;

/// How many events are taken at once.
const BATCH: usize = 256;

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
    map.lookup(&number.to_ne_bytes(), MapFlags::ANY)
        .map_err(|cause| Error::Kernel {
            what: format!("read entry {number} of the map {}", map.name().display()),
            said: String::new(),
            cause,
        })
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
        match abi::read(record) {
            Some(event) => inbox.events.push_back(event),
            None => inbox.short += 1,
        }
        0
    })?;
    builder.build()
}
