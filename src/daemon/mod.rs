// SPDX-License-Identifier: GPL-2.0-only
//! The daemon: one loop that waits for events, questions and signals. It wakes up for
//! nothing else.

mod alarm;
mod client;
mod clients;
mod control;
mod exporter;
mod held;
mod history;
mod hotplug;
mod http;
mod lock;
mod policies;
mod protocol;
mod queue;
mod record;
mod service;
mod state;

use std::cell::Cell;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::timerfd::ClockId;
use nix::unistd::{Gid, Group, getgroups, setgroups};

use crate::gate::order::{self, Step};
use crate::gate::{self, Gate, Order};
use crate::policy::{Mode, Policy};
use crate::privileges;
use crate::raw;
use crate::report::{Event, Severity, Sinks, Told, metrics};
use crate::topology::{SYSFS, Topology};
use alarm::Alarm;
pub use client::{News, NoDaemon, NoRight, PATIENCE, Place, ask, ask_on};
use clients::{Reply, TurnedAway};
use control::{Control, READERS, SOCKET};
use exporter::Exporter;
use history::History;
use hotplug::Hotplug;
pub use lock::{Busy, Lock};
use policies::Policies;
pub use protocol::{Holder, Question, Refusal, Turned, Wait};
pub use queue::KEPT;
use queue::Queue;
use service::Service;

const SIGNALS: u64 = 0;
const EVENTS: u64 = 1;
const QUESTIONS: u64 = 2;
const HOTPLUG: u64 = 3;
const BEAT: u64 = 4;
const LEASE: u64 = 5;
const ORDER_END: u64 = 6;
const METRICS: u64 = 7;
const WAITERS: u64 = 8;
const BELL: u64 = 9;

/// How often the daemon looks after the gate in the time of a lease.
const BEATS: u32 = 4;

/// How many mistakes of a policy are logged.
const MISTAKES_LOGGED: usize = 5;

/// A gate that stands, and what it stands for.
pub struct Daemon<'obj> {
    gate: Gate<'obj>,
    policies: Policies,
    history: History,
    service: Service,
    /// The machine as it is online, and with all CPUs that were ever seen.
    topology: Topology,
    seen: Topology,
    sinks: Sinks,
    emitted: u64,
    topologies_lost: u64,
    turned_away: TurnedAway,
    textfiles_lost: Rc<Cell<u64>>,
    told: Told,
    /// Rings when the gate is to be looked after, and when an order ends.
    lease: Alarm,
    order_end: Alarm,
    /// The gate stays when the daemon ends.
    stays: bool,
}

impl<'obj> Daemon<'obj> {
    /// A daemon for a gate that was loaded with the policy at `path` and this topology; `stays`: the
    /// gate does so when the daemon ends.
    ///
    /// # Errors
    ///
    /// A descriptor could not be made.
    pub fn new(
        gate: Gate<'obj>,
        (path, policy): (PathBuf, Policy),
        topology: Topology,
        stays: bool,
    ) -> Result<Self> {
        Ok(Self {
            sinks: Sinks::new(&policy.log),
            gate,
            policies: Policies::new(path, policy),
            history: History::default(),
            service: Service::new()?,
            seen: topology.clone(),
            topology,
            emitted: 0,
            topologies_lost: 0,
            turned_away: TurnedAway::default(),
            textfiles_lost: Rc::default(),
            told: Told::default(),
            lease: Alarm::new(ClockId::CLOCK_MONOTONIC)?,
            order_end: Alarm::new(ClockId::CLOCK_BOOTTIME)?,
            stays,
        })
    }

    /// Attaches the gate and serves until SIGTERM or SIGINT; see [`hold_signals`].
    ///
    /// # Errors
    ///
    /// A descriptor could not be made or waited for, a hook was refused (then none is
    /// attached), or the ring buffer could not be read.
    pub fn run(mut self) -> Result<()> {
        let signals = signals()?;
        let readers = self.readers();
        let mut control = Control::bind(Path::new(SOCKET), readers, self.turned_away.clone())?;
        if let Some(why) = control.closed() {
            self.say(Severity::LOG_ERR, &format!("only root can ask: {why}"));
        }
        let mut exporter = Exporter::new(
            readers,
            self.turned_away.clone(),
            Rc::clone(&self.textfiles_lost),
        )?;
        let prepared = exporter.prepare(&self.policies.held.metrics)?;
        exporter.apply(prepared)?;
        let hotplug = Hotplug::listen()?;
        let mut queue = Queue::new(self.turned_away.clone())?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
        for (fd, token) in [
            (signals.as_fd(), SIGNALS),
            (self.gate.events_fd(), EVENTS),
            (control.as_fd(), QUESTIONS),
            (hotplug.as_fd(), HOTPLUG),
            (self.service.as_fd(), BEAT),
            (self.lease.as_fd(), LEASE),
            (self.order_end.as_fd(), ORDER_END),
            (exporter.as_fd(), METRICS),
            (queue.as_fd(), WAITERS),
            (self.gate.bell_fd(), BELL),
        ] {
            epoll
                .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))
                .context("cannot watch a descriptor")?;
        }
        self.keep_lease()?;
        self.gate.attach(self.stays)?;
        privileges::keep(&privileges::of_daemon(self.policies.held.log.audit))?;
        self.follow_order()?;
        // What changed before the hooks stood.
        self.follow();
        self.say(Severity::LOG_NOTICE, &self.ready_line()?);
        self.told_ready();
        raw::give_back_memory();
        loop {
            let mut ready = [EpollEvent::empty(); 8];
            let count = match epoll.wait(&mut ready, EpollTimeout::NONE) {
                Err(nix::Error::EINTR) => continue,
                answer => answer.context("cannot wait for events")?,
            };
            for event in &ready[..count] {
                match event.data() {
                    EVENTS => _ = self.log_events()?,
                    QUESTIONS => {
                        control.serve(|question| self.answer(question, &mut exporter))?;
                        for waiter in control.take_waiting() {
                            queue.add(waiter)?;
                        }
                        // What is said of 10,000 rules is some megabytes of small pieces.
                        raw::give_back_memory();
                    }
                    HOTPLUG if hotplug.happened() => self.follow(),
                    HOTPLUG => {}
                    BEAT => self.beat(),
                    LEASE => {
                        self.lease.quiet();
                        self.gate.beat()?;
                    }
                    ORDER_END => self.end_order()?,
                    WAITERS => queue.serve()?,
                    BELL => {
                        self.gate.quiet_bell();
                        queue.ring()?;
                    }
                    METRICS => {
                        self.export(&mut exporter)?;
                        raw::give_back_memory();
                    }
                    _ if self.is_told_to_end(&signals, &mut exporter)? => return self.stop(),
                    _ => {}
                }
            }
            self.gate.set_awaited(!queue.is_empty())?;
            for event in self.history.take_untold() {
                control.tell(&event)?;
            }
            self.tell_failures()?;
        }
    }

    /// The group of those who may read, of which the daemon becomes a member if it can: so it can
    /// give it sockets without a capability. A failure to look it up keeps them out, and nothing else.
    fn readers(&mut self) -> Option<Gid> {
        let group = Group::from_name(READERS).unwrap_or_else(|errno| {
            let line = format!("only root can ask: cannot look up the group {READERS}: {errno}");
            self.say(Severity::LOG_ERR, &line);
            None
        });
        let group = group?.gid;
        let mut groups = getgroups().unwrap_or_default();
        if !groups.contains(&group) {
            groups.push(group);
            // Without the right to do so, only a socket that cannot be given tells of it.
            let _ = setgroups(&groups);
        }
        Some(group)
    }

    /// Does what signals ask for; whether they ask for the end.
    fn is_told_to_end(&mut self, signals: &SignalFd, exporter: &mut Exporter) -> Result<bool> {
        while let Some(signal) = signals.read_signal().context("cannot read a signal")? {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGHUP) => {
                    let told = self.service.reloading();
                    self.unless_told(told);
                    let reloaded = self.policies.reload(&mut self.gate, exporter);
                    self.turned("reloaded", &reloaded)?;
                    self.told_ready();
                }
                Ok(Signal::SIGUSR1) => {
                    self.sinks.reopen();
                    self.say(Severity::LOG_INFO, "log files are opened anew");
                }
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    fn answer(&mut self, question: Question, exporter: &mut Exporter) -> Reply {
        let (what, turned) = match question {
            Question::Status => {
                let status = self.status();
                return Reply::one(status.map_err(|error| Refusal::failed(format!("{error:#}"))));
            }
            Question::Cores => {
                let cores = self.cores();
                return Reply::one(cores.map_err(|error| Refusal::failed(format!("{error:#}"))));
            }
            Question::Denials { last } => return Reply::events(self.history.denials(last), false),
            Question::Events { follow } => return Reply::events(self.history.events(), follow),
            Question::Holders => {
                let holders = self.holders();
                return Reply::one(holders.map_err(|error| Refusal::failed(format!("{error:#}"))));
            }
            Question::Wait(wait) => {
                return Reply {
                    waits: Some(wait),
                    ..Reply::default()
                };
            }
            Question::Reload => ("reloaded", self.policies.reload(&mut self.gate, exporter)),
            Question::Rehearse { sources } => (
                "rehearsal begins",
                self.policies.rehearse(&mut self.gate, &sources),
            ),
            Question::Promote => ("promoted", self.policies.promote(&mut self.gate, exporter)),
            Question::Drop => (
                "rehearsal ended",
                self.policies.drop_rehearsed(&mut self.gate),
            ),
            Question::Order { step } => ("ordered", self.order(&step)),
        };
        let told = self.turned(what, &turned);
        Reply::one(turned.and_then(|turned| {
            told.map_err(|error| Refusal::failed(format!("{error:#}")))?;
            Ok(turned)
        }))
    }

    /// Lets others have the metrics.
    fn export(&mut self, exporter: &mut Exporter) -> Result<()> {
        let failed = exporter.serve(|| {
            let status = self.status().map_err(|error| format!("{error:#}"));
            status.map(|status| metrics::text(&status))
        })?;
        if let Some(line) = failed {
            self.say(Severity::LOG_ERR, &line);
        }
        Ok(())
    }

    /// Says what became of a change of policies, and reads the events of the one before: they are
    /// all in the ring buffer by now.
    fn turned(&mut self, what: &str, turned: &Result<Turned, Refusal>) -> Result<()> {
        match turned {
            Ok(turned) => {
                self.sinks.apply(&self.policies.held.log);
                self.say(Severity::LOG_NOTICE, &format!("{what}: {turned}"));
            }
            Err(refusal) => {
                let generation = self.gate.generation();
                self.say(
                    Severity::LOG_ERR,
                    &format!("not {what}; generation {generation} holds"),
                );
                for line in refusal.lines().iter().take(MISTAKES_LOGGED) {
                    self.say(Severity::LOG_ERR, line);
                }
            }
        }
        self.log_what_waits()?;
        self.policies.forget_before();
        self.service.changed();
        self.keep_lease()
    }

    /// Looks after the gate, and goes on to do so as often as its policy wants it.
    fn keep_lease(&mut self) -> Result<()> {
        self.gate.beat()?;
        let lease = self.policies.held.lease;
        self.lease.every(lease.map(|lease| lease.time / BEATS))
    }

    fn order(&mut self, step: &Step) -> Result<Turned, Refusal> {
        let failed = |error: anyhow::Error| Refusal::failed(format!("{error:#}"));
        let taken = order::take(self.gate.kept(), step).map_err(|error| failed(error.into()))?;
        taken.map_err(|error| failed(error.into()))?;
        let order = self.follow_order().map_err(failed)?;
        Ok(Turned {
            mode: self.mode(order.as_ref()).to_string(),
            ..self.policies.turned(&self.gate)
        })
    }

    /// Says what root orders, and when that ends.
    fn follow_order(&mut self) -> Result<Option<Order>> {
        let order = order::given(self.gate.kept())?;
        if let Some(order) = &order {
            self.say(Severity::LOG_WARNING, &format!("mode by order: {order}"));
        }
        let left = order.as_ref().and_then(|order| order.left_ms);
        let left = left.filter(|left| *left > 0);
        self.order_end.once(left.map(Duration::from_millis))?;
        self.service.changed();
        Ok(order)
    }

    fn end_order(&mut self) -> Result<()> {
        self.order_end.quiet();
        self.service.changed();
        let order = order::given(self.gate.kept())?;
        let mode = self.mode(order.as_ref());
        let line = format!("the order has ended: mode {mode}");
        self.say(Severity::LOG_WARNING, &line);
        Ok(())
    }

    /// The mode in which the gate judges.
    fn mode(&self, order: Option<&Order>) -> Mode {
        let ordered = order.and_then(Order::mode_now);
        ordered.unwrap_or(self.policies.held.mode)
    }

    fn told_ready(&mut self) {
        let told = self.summary().and_then(|line| self.service.ready(&line));
        self.unless_told(told);
    }

    fn beat(&mut self) {
        let told = self.service.beat();
        self.unless_told(told);
        if self.service.take_changed() {
            let told = self.summary().and_then(|line| self.service.status(&line));
            self.unless_told(told);
        }
    }

    /// Says why the service manager does not know how the daemon is. It kills one that it does not
    /// hear of, so there is no more to do.
    fn unless_told(&mut self, told: Result<()>) {
        if let Err(error) = told {
            self.say(Severity::LOG_ERR, &format!("{error:#}"));
        }
    }

    fn stop(&mut self) -> Result<()> {
        let told = self.service.stopping();
        self.unless_told(told);
        self.log_what_waits()?;
        let line = if self.stays {
            "stopped: the gate stands without a daemon, and nobody logs its verdicts; \
             'coregate detach' takes it down"
        } else {
            "stopped: the gate is detached, launches are not judged"
        };
        self.say(Severity::LOG_NOTICE, line);
        Ok(())
    }

    /// Lets the gate know which CPUs are there. If that fails, the gate goes on with what it knows,
    /// and says `unknown` if a CPU came that it does not know.
    fn follow(&mut self) {
        if let Err(error) = self.try_follow() {
            self.topologies_lost += 1;
            let line = format!("cannot follow the topology: {error:#}");
            self.say(Severity::LOG_ERR, &line);
        }
    }

    fn try_follow(&mut self) -> Result<()> {
        loop {
            let newcomers = self.gate.newcomers()?;
            let topology = Topology::read(Path::new(SYSFS))?;
            self.seen = topology.and_offline_of(&self.seen);
            self.gate.follow(&self.seen, newcomers)?;
            if topology != self.topology {
                let line = format!(
                    "the machine has {topology} online; it had {}",
                    self.topology
                );
                self.say(Severity::LOG_NOTICE, &line);
                self.topology = topology;
            }
            if self.gate.newcomers()? == newcomers {
                return Ok(());
            }
        }
    }

    fn say(&mut self, severity: Severity, line: &str) {
        self.sinks.message(severity, line);
    }

    /// Logs the events that wait now, and some of those that come meanwhile.
    fn log_what_waits(&mut self) -> Result<()> {
        for _ in 0..=gate::RING_EVENTS / gate::BATCH {
            if self.log_events()? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Logs one batch of events and ends of claims; how many there were.
    fn log_events(&mut self) -> Result<usize> {
        let events = self.gate.take_events()?;
        for raw in &events {
            let event = record::event(raw, self.policies.rule_of(&raw.event, &self.gate));
            self.sinks.event(&event);
            self.emitted += 1;
            self.service.changed();
            self.history.add(event);
        }
        let ends = self.gate.take_ends();
        for raw in &ends {
            let ended = record::ended(raw, self.policies.rule_named(raw.rule_key));
            self.sinks.ended(&ended);
        }
        Ok(events.len() + ends.len())
    }

    /// Logs the failures that grew.
    fn tell_failures(&mut self) -> Result<()> {
        let news = self.told.news(&self.failures()?, Instant::now());
        for line in news {
            self.say(Severity::LOG_ERR, &line);
        }
        Ok(())
    }
}

/// The event that a record of a gate without a daemon is.
pub fn event_of(record: &gate::Record) -> Event {
    record::event(record, None)
}

/// The signals that the daemon reads.
fn mask() -> SigSet {
    let mut mask = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
    ] {
        mask.add(signal);
    }
    mask
}

/// From here on, and in threads that start later, these signals wait for a daemon to read them: one
/// that is still loading its gate is not ended by what is meant for its log files.
///
/// # Errors
///
/// The kernel refused it.
pub fn hold_signals() -> Result<()> {
    mask().thread_block().context("cannot block signals")
}

/// What [`hold_signals`] lets wait, to be read.
///
/// # Errors
///
/// The kernel refused it.
pub fn signals() -> Result<SignalFd> {
    SignalFd::with_flags(&mask(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("cannot make a signalfd")
}
