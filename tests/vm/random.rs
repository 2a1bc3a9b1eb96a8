// SPDX-License-Identifier: GPL-2.0-only
//! Random launches, with claims that come and go, against the oracle.

use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use libbpf_rs::OpenObject;
use nix::libc::EAGAIN;

use crate::gate::{Gate, Verdict};
use crate::launch::{PARENT, PROBE, SLEEPER, SPINNER, program};
use crate::machine::{Core, Load, cores, pin, wait_for};
use crate::oracle::Oracle;
use crate::oracle::room::{Claim, Wanted};
use crate::schedulers::{Scheduler, Tracking, state};
use crate::{NUMA, Needs, Test};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "i4_random_launches_are_judged_right",
    needs: Needs::Nothing,
    on: NUMA,
    run: random,
}];

const LAUNCHES: u64 = 500;
/// So many wrong verdicts are enough to know.
const MANY: usize = 20;

/// How many programs run at most, and how many of these spin: the guest's CPUs run in turns.
const RUNNING: usize = 6;
const SPINNING: usize = 1;

/// How long `/opt/settle` holds its cores, and how much later the end may be.
const SETTLE: Duration = Duration::from_millis(1500);
const LATER: Duration = Duration::from_millis(700);

/// A rule by the program that it is for.
struct Rule {
    path: &'static str,
    more: &'static str,
    cores: u32,
    scope: Scope,
    own_core: bool,
    hold: Hold,
}

#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Node,
    Any,
    Spread,
    Node1,
}

#[derive(Clone, Copy, PartialEq)]
enum Hold {
    Exit,
    Settle,
    None,
}

impl Rule {
    const fn new(path: &'static str, more: &'static str) -> Self {
        Self {
            path,
            more,
            cores: 1,
            scope: Scope::Node,
            own_core: true,
            hold: Hold::Exit,
        }
    }
}

const RULES: &[Rule] = &[
    Rule::new("/opt/one", ""),
    Rule {
        cores: 2,
        ..Rule::new("/opt/two", "cores = 2")
    },
    Rule {
        scope: Scope::Any,
        ..Rule::new("/opt/any", "scope = \"any\"")
    },
    Rule {
        scope: Scope::Spread,
        cores: 2,
        ..Rule::new("/opt/spread", "scope = \"spread\"\ncores = 2")
    },
    Rule {
        scope: Scope::Node1,
        ..Rule::new("/opt/node-1", "scope = [1]")
    },
    Rule {
        own_core: false,
        ..Rule::new("/opt/other-core", "own_core = false")
    },
    Rule {
        hold: Hold::Settle,
        ..Rule::new("/opt/settle", "hold = \"settle\"\nsettle = \"1500ms\"")
    },
    Rule {
        hold: Hold::None,
        ..Rule::new("/opt/none", "hold = \"none\"")
    },
];

/// Those that the machine's nodes allow for.
fn rules(machine: &[Core]) -> Vec<&'static Rule> {
    let has_node_1 = machine.iter().any(|core| core.node == 1);
    let fits = |rule: &&Rule| has_node_1 || rule.scope != Scope::Node1;
    RULES.iter().filter(fits).collect()
}

fn policy(rules: &[&Rule]) -> String {
    let rules = rules.iter().map(|rule| {
        let Rule { path, more, .. } = rule;
        format!(
            "[[rule]]\nname = \"{}\"\nexe = \"{path}\"\n{more}\n",
            path.trim_start_matches("/opt/")
        )
    });
    format!(
        "[gate]\nmode = \"enforce\"\nevent_rate = 0\n{}",
        rules.collect::<String>()
    )
}

/// A program that was admitted and runs.
struct Running {
    child: Child,
    spins: bool,
    claim: Option<Claim>,
    /// Until when the claim is there for sure, and when it is gone for sure.
    end: Option<(Instant, Instant)>,
}

impl Running {
    fn may_hold(&self, now: Instant) -> Option<Claim> {
        let over = self.end.is_some_and(|(_, end)| now > end);
        self.claim.clone().filter(|_| !over)
    }

    fn holds(&self, now: Instant) -> Option<Claim> {
        let over = self.end.is_some_and(|(end, _)| now > end);
        self.claim.clone().filter(|_| !over)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How the launches compared with the oracle.
#[derive(Debug, Default)]
struct Comparison {
    sure: u64,
    unsure: u64,
    admitted: u64,
    beside_claims: u64,
    denied_by_claims: u64,
    wrong: Vec<String>,
}

/// The machine with what goes on there.
struct World {
    rng: Rng,
    machine: Vec<Core>,
    rules: Vec<&'static Rule>,
    gate: Gate,
    running: Vec<Running>,
    load: Option<(Load, Load)>,
    scheduler: Option<Scheduler>,
}

fn random() -> Result<()> {
    let mut storage = MaybeUninit::uninit();
    let mut launches = Launches::start(&mut storage)?;
    for i in 0..crate::soak().unwrap_or(LAUNCHES) {
        if i.is_multiple_of(100) && !state().is_empty() {
            launches.world.swap_scheduler()?;
        }
        launches.one()?;
    }
    launches.end()
}

/// Random launches, each of which is compared with the oracle.
pub(crate) struct Launches<'obj> {
    oracle: Oracle<'obj>,
    world: World,
    comparison: Comparison,
    count: u64,
}

impl<'obj> Launches<'obj> {
    /// With SEED in its environment it does the same again, as far as the guest's clock lets it.
    pub(crate) fn start(storage: &'obj mut MaybeUninit<OpenObject>) -> Result<Self> {
        let random = |_| Ok(fastrand::u64(..));
        let seed = std::env::var("SEED").map_or_else(random, |seed| seed.parse())?;
        eprintln!("seed {seed}");
        let machine = cores()?;
        let rules = rules(&machine);
        rules.iter().try_for_each(|rule| program(rule.path))?;
        Ok(Self {
            oracle: Oracle::start(storage)?,
            world: World {
                rng: Rng::with_seed(seed),
                gate: Gate::start(&policy(&rules))?,
                machine,
                rules,
                running: Vec::new(),
                load: None,
                scheduler: None,
            },
            comparison: Comparison::default(),
            count: 0,
        })
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.world.gate
    }

    /// How many verdicts were wrong so far.
    pub(crate) fn wrong(&self) -> usize {
        self.comparison.wrong.len()
    }

    /// One more, after which something else goes on.
    pub(crate) fn one(&mut self) -> Result<()> {
        self.count += 1;
        self.world.change()?;
        self.world.launch(&mut self.oracle, &mut self.comparison)?;
        let wrong = &self.comparison.wrong;
        ensure!(wrong.len() < MANY, "{wrong:#?}");
        Ok(())
    }

    /// Ends all that was started; an error if a verdict was wrong, or too little was seen.
    pub(crate) fn end(mut self) -> Result<()> {
        self.comparison.judge(self.count)?;
        self.world.running.clear();
        let status = self.world.gate.status()?;
        for node in status["nodes"].as_array().context("no nodes")? {
            ensure!(node["claimed"] == 0, "{status}");
        }
        self.world.gate.stop()
    }
}

impl Comparison {
    fn judge(&self, launches: u64) -> Result<()> {
        eprintln!(
            "{launches} launches compared: {} admitted, {} beside claims, {} denied by them alone; \
             the oracle was sure of {}; {} wrong",
            self.admitted,
            self.beside_claims,
            self.denied_by_claims,
            self.sure,
            self.wrong.len()
        );
        ensure!(self.wrong.is_empty(), "{:#?}", self.wrong);
        ensure!(self.sure * 2 > launches, "{self:?}");
        ensure!(
            self.admitted * 10 > launches && self.admitted * 10 < launches * 9,
            "{self:?}"
        );
        ensure!(self.denied_by_claims * 50 > launches, "{self:?}");
        Ok(())
    }
}

impl World {
    /// Some scheduler of ours, or none, takes the place of the one that was.
    fn swap_scheduler(&mut self) -> Result<()> {
        drop(self.scheduler.take());
        let kind = self.rng.usize(..=Tracking::ALL.len());
        if let Some(&tracking) = Tracking::ALL.get(kind) {
            self.scheduler = Some(Scheduler::load(tracking)?);
        }
        Ok(())
    }

    /// Changes the load, ends programs: sometimes.
    fn change(&mut self) -> Result<()> {
        if self.rng.u32(..10) == 0 {
            let cpus: Vec<u32> = self
                .machine
                .iter()
                .flat_map(|core| core.cpus.clone())
                .collect();
            let mut some = |most: usize| {
                let count = self.rng.usize(..=most);
                self.rng.choose_multiple(cpus.iter().copied(), count)
            };
            let (busy, bursts) = (some(2), some(1));
            self.load = None;
            if self.rng.bool() {
                let bursts = Load::bursts(&bursts, Duration::from_millis(10))?;
                self.load = Some((Load::on(&busy)?, bursts));
            }
        }
        while !self.running.is_empty() && (self.running.len() >= RUNNING || self.rng.u32(..4) == 0)
        {
            let which = self.rng.usize(..self.running.len());
            drop(self.running.swap_remove(which));
        }
        Ok(())
    }

    /// CPUs for a launch: all, a node's, a core's or two's, or one.
    fn some_cpus(&mut self) -> Vec<u32> {
        let count = self.machine.len();
        let nodes = self.machine.iter().map(|core| core.node).max().unwrap_or(0) + 1;
        let node = self.rng.u32(..nodes);
        let kind = self.rng.u32(..20);
        let first = self.rng.usize(..count);
        let second = self.rng.usize(..count);
        let cpus = |cores: &[usize]| -> Vec<u32> {
            let cores = cores.iter().map(|&core| &self.machine[core].cpus);
            cores.flatten().copied().collect()
        };
        match kind {
            0..5 => cpus(&(0..count).collect::<Vec<_>>()),
            5..13 => {
                let here = (0..count).filter(|&core| self.machine[core].node == node);
                cpus(&here.collect::<Vec<_>>())
            }
            13..16 => cpus(&[first]),
            16..18 => cpus(&[first, second]),
            _ => vec![self.machine[first].cpus[0]],
        }
    }

    fn launch(&mut self, oracle: &mut Oracle<'_>, comparison: &mut Comparison) -> Result<()> {
        let rule = self.rules[self.rng.usize(..self.rules.len())];
        let spinning = self.running.iter().filter(|running| running.spins).count();
        let name = match self.rng.u32(..10) {
            0..2 if spinning < SPINNING => SPINNER,
            2 if spinning < SPINNING => PARENT,
            3..5 => PROBE,
            _ => SLEEPER,
        };
        let allowed = self.some_cpus();
        pin(&allowed)?;
        oracle.forget()?;
        let before = Instant::now();
        let child = Command::new(rule.path)
            .arg0(name)
            .stdin(Stdio::null())
            .spawn();
        let errno = match &child {
            Ok(_) => None,
            Err(error) => Some(error.raw_os_error().context("not an errno")?),
        };
        let verdict = self.gate.verdict()?;
        let wanted = self.wanted(rule, &verdict, allowed)?;
        let [may_be, are]: [Vec<Claim>; 2] = [
            self.running
                .iter()
                .filter_map(|r| r.may_hold(before))
                .collect(),
            self.running
                .iter()
                .filter_map(|r| r.holds(Instant::now()))
                .collect(),
        ];
        let denied = verdict.effect() == "denied";
        ensure!(
            errno == denied.then_some(EAGAIN),
            "{errno:?}, but {verdict:?}"
        );
        let pid = verdict.number("pid")? as i32;
        // What was under way in the hook is over soon, or on a busy machine at least then.
        for wait in [0, 30, 300] {
            let late = Duration::from_millis(wait);
            std::thread::sleep(late);
            let truths = oracle.truths(pid, self.gate.pid(), late)?;
            let [truth] = &truths[..] else {
                bail!("one exec of {pid} expected: {truths:?}")
            };
            let (surely, maybe) = truth.room(&self.machine, &wanted, &may_be, &are);
            let right = if denied { !surely } else { maybe };
            if !right && wait < 300 {
                continue;
            }
            if !right || verdict.get("verdict") == "unknown" {
                let wrong = format!(
                    "{verdict:?}, but {surely} {maybe} for {wanted:?} and {may_be:?} by {truth:?}"
                );
                eprintln!("{wrong}");
                comparison.wrong.push(wrong);
            } else if surely == maybe {
                comparison.sure += 1;
            } else {
                comparison.unsure += 1;
            }
            let alone = truth.room(&self.machine, &wanted, &[], &[]).0;
            comparison.denied_by_claims += u64::from(denied && alone);
            break;
        }
        comparison.admitted += u64::from(!denied);
        comparison.beside_claims += u64::from(!denied && !may_be.is_empty());
        if let Ok(child) = child {
            self.admitted(rule, name, child, before, wanted)?;
        }
        Ok(())
    }

    fn wanted(&self, rule: &Rule, verdict: &Verdict, allowed: Vec<u32>) -> Result<Wanted> {
        let cpu = verdict.number("cpu")?;
        let here = self.machine.iter().find(|core| core.cpus.contains(&cpu));
        let mut nodes: Vec<u32> = self.machine.iter().map(|core| core.node).collect();
        nodes.dedup();
        match rule.scope {
            Scope::Node => nodes = vec![here.context("no such CPU")?.node],
            Scope::Node1 => nodes = vec![1],
            Scope::Any | Scope::Spread => {}
        }
        Ok(Wanted {
            cores: rule.cores,
            nodes,
            spread: matches!(rule.scope, Scope::Spread | Scope::Node1),
            allowed,
            cpu,
            own_core: rule.own_core,
        })
    }

    fn admitted(
        &mut self,
        rule: &Rule,
        name: &str,
        mut child: Child,
        before: Instant,
        wanted: Wanted,
    ) -> Result<()> {
        if name == PROBE {
            ensure!(child.wait()?.success());
            return Ok(());
        }
        let mut pids = vec![child.id() as i32];
        if name == PARENT {
            let path = format!("/proc/{0}/task/{0}/children", child.id());
            wait_for("a child", Duration::from_secs(20), || {
                let children = fs::read_to_string(&path).unwrap_or_default();
                pids.extend(
                    children
                        .split_whitespace()
                        .filter_map(|pid| pid.parse::<i32>().ok()),
                );
                pids.len() > 1
            })?;
        }
        let claim = if rule.hold == Hold::None {
            None
        } else {
            Some(Claim {
                pids,
                held: self.held_by_the_last(&wanted)?,
                allowed: wanted.allowed,
            })
        };
        self.running.push(Running {
            child,
            spins: name != SLEEPER,
            claim,
            end: (rule.hold == Hold::Settle)
                .then(|| (before + SETTLE, Instant::now() + SETTLE + LATER)),
        });
        Ok(())
    }

    /// By node: the cores of the claim that was just taken. Where it can lie on more than one, the
    /// gate says what it holds there now more than others do.
    fn held_by_the_last(&self, wanted: &Wanted) -> Result<BTreeMap<u32, u32>> {
        if let [node] = wanted.nodes[..] {
            return Ok(BTreeMap::from([(node, wanted.cores)]));
        }
        let before = Instant::now();
        let status = self.gate.status()?;
        let after = Instant::now();
        let mut held = BTreeMap::new();
        for node in status["nodes"].as_array().context("no nodes")? {
            let number = |key: &str| node[key].as_u64().context("no number");
            let id = number("node")? as u32;
            let others = |claims: &dyn Fn(&Running) -> Option<Claim>| -> u64 {
                let claims = self.running.iter().filter_map(claims);
                let cores = claims.filter_map(|claim| claim.held.get(&id).copied());
                cores.map(u64::from).sum()
            };
            let least = others(&|running| running.holds(after));
            let most = others(&|running| running.may_hold(before));
            let claimed = number("claimed")?;
            if least != most {
                // A claim that may have ended: what is held then is not known.
                std::thread::sleep(SETTLE + 2 * LATER);
                return self.held_by_the_last(wanted);
            }
            let cores = claimed
                .checked_sub(least)
                .with_context(|| format!("claims are missing, {least} expected: {status}"))?;
            if cores > 0 {
                held.insert(id, cores as u32);
            }
        }
        let all: u32 = held.values().sum();
        ensure!(
            all == wanted.cores,
            "{all} cores held, {} wanted: {status}",
            wanted.cores
        );
        Ok(held)
    }
}
