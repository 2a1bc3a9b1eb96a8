// SPDX-License-Identifier: GPL-2.0-only
//! What an admitted launch costs while others hold claims.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{MemberAttr, Struct};
use libbpf_rs::query::{MapInfoIter, ProgInfoIter};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

use super::measurer::PAUSE;
use super::{ADMITTED, Bench, Block, NODE, Without, policy};
use crate::claims::Running;
use crate::gate::Gate;
use crate::launch::{SLEEPER, SPINNER, program};
use crate::machine::{Core, cores, keep, node_cores, pin};
use crate::schedulers::{Scheduler, Tracking, settle, wait_until_none};

/// A rule of one core on any node.
pub(super) const HOLDER: &str = "/usr/bin/bench-holder";

/// Live claims that a launch is measured with, and the rows by scan and by node mask.
const LIVE: [(u32, &str, &str); 4] = [
    (0, "exec/claims-0", "exec/claims-0-node"),
    (10, "exec/claims-10", "exec/claims-10-node"),
    (100, "exec/claims-100", "exec/claims-100-node"),
    (1000, "exec/claims-1000", "exec/claims-1000-node"),
];

/// Real claims of programs that sleep.
const SLEEPERS: usize = 10;

/// Between two launches while a program spins: the clock goes on only as that one turns.
const SPINNING_PAUSE: Duration = Duration::from_micros(50);

/// A launch with claims that were written into the gate's table, all on another node.
pub(super) fn prefilled(bench: &mut Bench, tracking: Option<Tracking>) -> Result<()> {
    let _room = Room::make()?;
    let scheduler = tracking.map(Scheduler::load).transpose()?;
    let source = tracking.map_or("runqueue", Tracking::source);
    let without = Without::Exec(ADMITTED);
    bench.between(&policy("enforce", 10)?, &[without], |bench, gate| {
        settle(gate)?;
        let mut blocks = Vec::new();
        for (live, by_scan, by_node) in LIVE {
            prefill(live)?;
            ensure!(claimed(gate, 0)? == u64::from(live), "{}", gate.status()?);
            let cost = bench.judged(gate, ADMITTED, ("admitted", source))?;
            let row = if tracking.is_some() { by_node } else { by_scan };
            blocks.push((row, cost, without));
        }
        Ok(blocks)
    })?;
    drop(scheduler);
    wait_until_none()
}

/// A launch while programs sleep that hold cores of other nodes.
pub(super) fn sleeping(bench: &mut Bench, gate: &Gate) -> Result<Block> {
    let before = launches(gate)?;
    let others = cores()?.into_iter().filter(|core| core.node != NODE);
    pin(&others.flat_map(|core| core.cpus).collect::<Vec<_>>())?;
    let sleepers = (0..SLEEPERS).map(|_| Running::start(HOLDER, SLEEPER));
    let _sleepers = sleepers.collect::<Result<Vec<_>>>()?;
    pin(&[0])?;
    ensure!(claimed(gate, NODE)? == 0, "{}", gate.status()?);
    gate.verdicts((launches(gate)? - before) as usize)?;
    let cost = bench.judged(gate, ADMITTED, ("admitted", "runqueue"))?;
    Ok(("exec/sleeping", cost, Without::Exec(ADMITTED)))
}

/// Launches while programs spin that hold cores of its node.
pub(super) struct Spinning {
    rows: [Spinners; 2],
    /// What the launches cost without the gate.
    without: Vec<f64>,
}

/// Where they start, and so hold a core each, and where they run then.
struct Spinners {
    row: &'static str,
    start: Vec<Core>,
    run: Vec<Core>,
}

impl Spinning {
    /// On each core of the node but the launcher's; and on another node, as many as there are
    /// cores, so that each core of the machine is looked at.
    pub(super) fn measure(bench: &mut Bench) -> Result<Self> {
        program(HOLDER)?;
        let node = node_cores(NODE)?;
        let mut others = node.clone();
        others.retain(|core| !core.cpus.contains(&bench.cpu));
        let rows = [
            Spinners {
                row: "exec/running",
                start: others.clone(),
                run: others,
            },
            Spinners {
                row: "exec/running-elsewhere",
                start: node,
                run: node_cores(0)?,
            },
        ];
        let without = rows.iter().map(|row| {
            let _spinners = row.start()?;
            spinning(bench, |bench| bench.baseline(Without::Exec(ADMITTED)))
        });
        let without = without.collect::<Result<_>>()?;
        Ok(Self { rows, without })
    }

    pub(super) fn with_gate(&self, bench: &mut Bench, gate: &Gate) -> Result<()> {
        for (row, without) in self.rows.iter().zip(&self.without) {
            let before = launches(gate)?;
            let spinners = row.start()?;
            let held = claimed(gate, NODE)?;
            ensure!(held == spinners.len() as u64, "{}", gate.status()?);
            gate.verdicts((launches(gate)? - before) as usize)?;
            let cost = spinning(bench, |bench| {
                bench.judged(gate, ADMITTED, ("admitted", "runqueue"))
            })?;
            bench.note(row.row, cost - without);
        }
        Ok(())
    }
}

impl Spinners {
    fn start(&self) -> Result<Vec<Running>> {
        let started = self.start.iter().zip(&self.run).map(|(start, run)| {
            pin(&start.cpus)?;
            let spinner = Running::start(HOLDER, SPINNER);
            pin(&[0])?;
            let spinner = spinner?;
            // CPU 0 is left to the bench.
            keep(spinner.pid(), &run.cpus[1..])?;
            Ok(spinner)
        });
        started.collect()
    }
}

fn spinning(bench: &mut Bench, block: impl FnOnce(&mut Bench) -> Result<f64>) -> Result<f64> {
    bench.measurer.rest(SPINNING_PAUSE)?;
    let cost = block(bench);
    bench.measurer.rest(PAUSE)?;
    cost
}

/// How many launches there were under the gate: some holders are tried more than once.
fn launches(gate: &Gate) -> Result<u64> {
    let status = gate.status()?;
    let rules = status["rules"].as_array().context("no rules")?;
    let counts = rules
        .iter()
        .flat_map(|rule| [&rule["admitted"], &rule["denied"]]);
    Ok(counts.filter_map(Value::as_u64).sum())
}

/// Cores of a node that claims hold.
fn claimed(gate: &Gate, node: u32) -> Result<u64> {
    let nodes = &gate.status()?["nodes"];
    nodes[node as usize]["claimed"]
        .as_u64()
        .context("no number")
}

/// Room for more claims than a small machine can have: while it lives, a daemon that starts
/// is told that 512 CPUs are possible.
struct Room;

impl Room {
    const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

    fn make() -> Result<Self> {
        let told = "/run/possible";
        fs::write(told, "0-511\n")?;
        mount(
            Some(told),
            Self::POSSIBLE,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
        Ok(Self)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = umount2(Self::POSSIBLE, MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", Self::POSSIBLE);
        }
    }
}

/// Makes the first slots of the gate's table claims of one core of node 0 each, and says so in
/// its ledger; no other claim is live then.
fn prefill(live: u32) -> Result<()> {
    let layout = Layout::read()?;
    let parts = layout.at("claim", "now")? + layout.at("holding", "parts")?;
    let part = parts + layout.at("parts", "part")?;
    let (id, held) = (layout.at("claim", "id")?, layout.at("claim", "held")?);
    let claims = map("claims")?;
    for slot in 0..live {
        let mut claim = vec![0; claims.value_size() as usize];
        put(&mut claim, id, &u64::from(slot + 1).to_ne_bytes());
        put(&mut claim, parts, &1u32.to_ne_bytes());
        put(&mut claim, part, &[0u16, 1].map(u16::to_ne_bytes).concat());
        put(&mut claim, held, &1u16.to_ne_bytes());
        claims.update(&slot.to_ne_bytes(), &claim, MapFlags::ANY)?;
    }
    let ledgers = map("ledgers")?;
    let mut ledger = vec![0; ledgers.value_size() as usize];
    for member in ["used", "live", "held"] {
        put(
            &mut ledger,
            layout.at("ledger", member)?,
            &live.to_ne_bytes(),
        );
    }
    let ticket = u64::from(live) + 1;
    put(
        &mut ledger,
        layout.at("ledger", "ticket")?,
        &ticket.to_ne_bytes(),
    );
    Ok(ledgers.update(&0u32.to_ne_bytes(), &ledger, MapFlags::ANY)?)
}

fn put(value: &mut [u8], at: usize, bytes: &[u8]) {
    value[at..at + bytes.len()].copy_from_slice(bytes);
}

fn map(name: &str) -> Result<MapHandle> {
    let info = MapInfoIter::default().find(|map| map.name == name);
    let info = info.with_context(|| format!("no map {name} is loaded"))?;
    Ok(MapHandle::from_map_id(info.id)?)
}

/// The structures of the loaded gate, as it says itself.
struct Layout(Btf<'static>);

impl Layout {
    fn read() -> Result<Self> {
        let program = ProgInfoIter::default().find(|program| program.name == "on_exec");
        let program = program.context("no program on_exec is loaded")?;
        Ok(Self(Btf::from_prog_id(program.id)?))
    }

    /// Where a member is, in bytes.
    fn at(&self, of: &str, member: &str) -> Result<usize> {
        let structure: Struct<'_> = self.0.type_by_name(of).context("no structure")?;
        let mut members = structure.iter();
        let found = members.find(|one| one.name.is_some_and(|name| name == member));
        match found.with_context(|| format!("{of} has no {member}"))?.attr {
            MemberAttr::Normal { offset } => Ok(offset as usize / 8),
            MemberAttr::BitField { .. } => anyhow::bail!("{member} is no field"),
        }
    }
}
