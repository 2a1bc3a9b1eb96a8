// SPDX-License-Identifier: GPL-2.0-only
//! The daemon: one loop that waits for events, questions and signals. It wakes up for
//! nothing else.

mod control;
mod hotplug;
mod lock;

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use syslog::Severity;

use crate::gate::{self, Gate, abi};
use crate::kernel::{SchedExt, Source};
use crate::policy::{Effect, Errno, Hook, Mode, Policy, Verdict, Word};
use crate::report::{Event, Events, Failures, Node, Rule, Scheduler, Status, Syslog};
use crate::topology::{SYSFS, Topology};
use control::Control;
pub use control::{SOCKET, ask};
use hotplug::Hotplug;
pub use lock::{Busy, Lock};

const SIGNALS: u64 = 0;
const EVENTS: u64 = 1;
const QUESTIONS: u64 = 2;
const HOTPLUG: u64 = 3;

/// A gate that stands, and what it stands for.
pub struct Daemon<'obj> {
    gate: Gate<'obj>,
    policy: Policy,
    /// The machine as it is online, and with all CPUs that were ever seen.
    topology: Topology,
    seen: Topology,
    syslog: Syslog,
    emitted: u64,
    /// Verdicts go to stderr too: somebody watches.
    watched: bool,
    /// The gate stays when the daemon ends.
    stays: bool,
}

impl<'obj> Daemon<'obj> {
    /// A daemon for a gate that was loaded with this policy and topology; `stays`: the gate does so
    /// when the daemon ends.
    pub fn new(gate: Gate<'obj>, policy: Policy, topology: Topology, stays: bool) -> Self {
        Self {
            gate,
            policy,
            seen: topology.clone(),
            topology,
            syslog: Syslog::default(),
            emitted: 0,
            watched: io::stderr().is_terminal(),
            stays,
        }
    }

    /// Attaches the gate and serves until SIGTERM or SIGINT.
    ///
    /// # Errors
    ///
    /// A descriptor could not be made or waited for, a hook was refused (then none is
    /// attached), or the ring buffer could not be read.
    pub fn run(mut self) -> Result<()> {
        let signals = signals()?;
        let control = Control::bind(Path::new(SOCKET))?;
        let hotplug = Hotplug::listen()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot make an epoll")?;
        for (fd, token) in [
            (signals.as_fd(), SIGNALS),
            (self.gate.events_fd(), EVENTS),
            (control.as_fd(), QUESTIONS),
            (hotplug.as_fd(), HOTPLUG),
        ] {
            epoll
                .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))
                .context("cannot watch a descriptor")?;
        }
        self.gate.attach(self.stays)?;
        // What changed before the hooks stood.
        self.follow();
        self.say(Severity::LOG_NOTICE, &self.ready_line()?);
        loop {
            let mut ready = [EpollEvent::empty(); 4];
            let count = match epoll.wait(&mut ready, EpollTimeout::NONE) {
                Err(nix::Error::EINTR) => continue,
                answer => answer.context("cannot wait for events")?,
            };
            for event in &ready[..count] {
                match event.data() {
                    EVENTS => _ = self.log_events()?,
                    QUESTIONS => control.answer(|| self.status()),
                    HOTPLUG if hotplug.happened() => self.follow(),
                    HOTPLUG => {}
                    _ => return self.stop(),
                }
            }
        }
    }

    fn ready_line(&self) -> Result<String> {
        let status = self.status()?;
        let scheduler = status
            .scheduler
            .map_or("none".into(), |scheduler| scheduler.ops);
        Ok(format!(
            "ready: mode {}, generation {}, rules {}, hooks {}, scheduler {scheduler}, idle source {}",
            status.mode,
            status.generation,
            status.rules.len(),
            status.hooks,
            status.source.as_deref().unwrap_or("none"),
        ))
    }

    fn stop(&mut self) -> Result<()> {
        while self.log_events()? > 0 {}
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

    /// To the log, and to stderr.
    fn say(&mut self, severity: Severity, line: &str) {
        self.syslog.send(severity, line);
        // Nobody is left to tell when stderr is gone.
        let _ = writeln!(io::stderr(), "coregate: {line}");
    }

    /// Logs one batch of events; how many there were.
    fn log_events(&mut self) -> Result<usize> {
        let events = self.gate.take_events()?;
        for raw in &events {
            let event = self.event(raw);
            let severity = match event.effect {
                Effect::Admitted => Severity::LOG_INFO,
                Effect::Denied | Effect::Logged => Severity::LOG_WARNING,
            };
            let line = event.to_string();
            if self.watched {
                self.say(severity, &line);
            } else {
                self.syslog.send(severity, &line);
            }
            self.emitted += 1;
        }
        Ok(events.len())
    }

    fn event(&self, raw: &abi::event) -> Event {
        let rule = self.policy.rules.get(raw.rule as usize);
        Event {
            id: raw.id,
            verdict: match raw.verdict {
                abi::verdict::VERDICT_ADMIT => Verdict::Admit,
                abi::verdict::VERDICT_DENY => Verdict::Deny,
                _ => Verdict::Unknown,
            },
            effect: match raw.effect {
                abi::effect::EFFECT_ADMITTED => Effect::Admitted,
                abi::effect::EFFECT_DENIED => Effect::Denied,
                _ => Effect::Logged,
            },
            rule: rule.map_or_else(|| format!("#{}", raw.rule), |rule| rule.name.clone()),
            hook: match raw.hook {
                abi::hook::HOOK_FORK => Hook::Fork,
                abi::hook::HOOK_THREAD => Hook::Thread,
                _ => Hook::Exec,
            },
            pid: raw.pid,
            uid: raw.uid,
            gid: raw.gid,
            comm: abi::text(&raw.comm),
            exe: abi::text(&raw.exe),
            cpu: raw.cpu,
            node: raw.node,
            cores_needed: raw.cores_needed,
            cores_free: raw.cores_free,
            cores_claimed: raw.cores_claimed,
            source: source(raw.source),
            errno: Errno::ALL
                .iter()
                .copied()
                .find(|errno| errno.number().unsigned_abs() == raw.err),
            mode: match raw.mode {
                abi::mode::MODE_ENFORCE => Mode::Enforce,
                _ => Mode::Observe,
            },
            generation: raw.generation,
        }
    }

    fn status(&self) -> Result<Status> {
        let mut status = Status {
            mode: self.policy.mode.to_string(),
            generation: gate::FIRST_GENERATION,
            hooks: self.gate.hooks(),
            ..Status::default()
        };
        for node in self
            .topology
            .nodes
            .iter()
            .filter(|node| !node.cores.is_empty())
        {
            let survey = self.gate.survey(node.id)?;
            status.source = source(survey.source).map(|source| source.to_string());
            status.scheduler = survey.scheduler.map(|scheduler| Scheduler {
                ops: SchedExt::read(Path::new("/"))
                    .and_then(|sched_ext| sched_ext.ops)
                    .unwrap_or_else(|| "?".into()),
                per_node: scheduler.per_node,
                tracking: scheduler.tracking,
            });
            status.nodes.push(Node {
                node: node.id,
                cores: node.cores.len() as u32,
                free: survey.free.unwrap_or(0),
                claimed: survey.claimed,
            });
        }
        let rules = self.policy.rules.iter();
        let claims = self.gate.claims(rules.map(|rule| rule.name.as_str()))?;
        for (number, rule) in (0..).zip(&self.policy.rules) {
            let counters = self.gate.counters(number)?;
            status.rules.push(Rule {
                name: rule.name.clone(),
                origin: rule.origin.to_string(),
                launches: counters.launches,
                admitted: counters.admitted,
                denied: counters.denied,
                would_deny: counters.would_deny,
                unknown: counters.unknown,
                claims: claims.get(rule.name.as_str()).copied().unwrap_or(0),
            });
        }
        let (failures, unreadable) = self.gate.failures();
        status.events = Events {
            emitted: self.emitted,
            suppressed: 0,
            lost: failures.events_lost + unreadable + self.syslog.lost(),
        };
        status.failures = Failures {
            paths_unread: failures.paths_unread,
            rules_unread: failures.rules_unread,
            claims_full: failures.claims_full,
            claims_contended: failures.claims_contended,
            holders_lost: failures.holders_lost,
            timers_lost: failures.timers_lost,
        };
        Ok(status)
    }
}

/// From here on SIGTERM and SIGINT are read, not acted on.
fn signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    mask.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("cannot make a signalfd")
}

fn source(raw: abi::source) -> Option<Source> {
    match raw {
        abi::source::SOURCE_NODE => Some(Source::Node),
        abi::source::SOURCE_FLAT => Some(Source::Flat),
        abi::source::SOURCE_RUNQUEUE => Some(Source::Runqueue),
        _ => None,
    }
}
