// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask bench`: what a launch costs, in instructions, against the budgets.

mod peers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args as Arguments;
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::guest::{Guest, Image, Limits, Topology};
use crate::kernels::Kernel;
use crate::userland::Root;
use crate::{build, kernels, setup, userland};

/// Arguments of `cargo xtask bench`.
#[derive(Arguments)]
pub(crate) struct Args {
    /// Kernel series such as 6.18, or `newest`
    #[arg(long, value_name = "SERIES", default_value = kernels::NEWEST)]
    kernel: String,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Exit with 1 when a budget is missed
    #[arg(long)]
    check: bool,
    /// Compare with AppArmor, fapolicyd and auditd instead
    #[arg(long)]
    peers: bool,
    /// Take the programs as they were built last
    #[arg(long)]
    no_build: bool,
}

/// A guest that is measured: its topology, how it is called in the table, and what
/// `coregate-vm bench` does there.
struct Machine {
    topology: &'static str,
    title: &'static str,
    word: &'static str,
    /// In MiB.
    memory: u32,
}

const SMALL: Machine = Machine {
    topology: "numa",
    title: "8 CPUs, 2 nodes",
    word: "all",
    memory: 1024,
};

const BIG: Machine = Machine {
    topology: "big",
    title: "64 CPUs, 4 nodes",
    word: "matched",
    memory: 2048,
};

/// The most that a row may cost.
enum Budget {
    /// So many instructions.
    Instructions(f64),
    /// So many times the row of this name on the small machine.
    Times(f64, &'static str),
}

/// A line of the table.
struct Row {
    machine: &'static Machine,
    /// The name that `coregate-vm bench` prints.
    name: &'static str,
    what: &'static str,
    budget: Option<Budget>,
}

const EXEC_BARE: &str = "exec/bare";
const FORK_BARE: &str = "fork/bare";
const ADMITTED: &str = "exec/admitted";
const BOUND: &str = "exec/admitted-bound";

/// What a matching launch may cost.
const LAUNCH: Budget = Budget::Instructions(5_000.0);

/// The table, and all budgets.
const ROWS: &[Row] = &[
    row("exec/none", "exec: the failing execve itself, no program"),
    row(EXEC_BARE, "exec: a program that returns 0"),
    row("exec/unmatched", "exec: no rule matches").within(Budget::Times(2.0, FORK_BARE)),
    row("exec/namesake", "exec: no rule matches, one has the name"),
    row(ADMITTED, "exec: admitted, runqueue scan").within(LAUNCH),
    row("exec/admitted-node", "exec: admitted, node mask").within(LAUNCH),
    row("exec/admitted-flat", "exec: admitted, flat mask").within(LAUNCH),
    row("exec/admitted-woken", "exec: admitted, the daemon is woken").within(LAUNCH),
    row(
        "exec/admitted-10000",
        "exec: admitted, 10,000 rules, not 10",
    )
    .within(Budget::Times(1.1, ADMITTED)),
    row("exec/denied", "exec: denied"),
    row("exec/observed", "exec: would be denied, mode observe"),
    row("fork/none", "fork: child, end and wait, no program"),
    row(FORK_BARE, "fork: a program that returns 0"),
    row("fork/gate", "fork: no rule watches forks").within(Budget::Times(1.3, FORK_BARE)),
    row("exec/none", "exec: the failing execve itself, no program").on(&BIG),
    row(EXEC_BARE, "exec: a program that returns 0").on(&BIG),
    row(ADMITTED, "exec: admitted, runqueue scan")
        .on(&BIG)
        .within(Budget::Times(2.0, ADMITTED)),
    row(BOUND, "exec: admitted, caller bound to its node")
        .on(&BIG)
        .within(Budget::Times(2.0, BOUND)),
];

const fn row(name: &'static str, what: &'static str) -> Row {
    Row {
        machine: &SMALL,
        name,
        what,
        budget: None,
    }
}

impl Row {
    const fn within(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    const fn on(mut self, machine: &'static Machine) -> Self {
        self.machine = machine;
        self
    }

    /// What is measured without any program is no addition to anything.
    fn is_addition(&self) -> bool {
        !self.name.ends_with("/none")
    }
}

/// Instructions of a launch, and how far the rounds lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    instructions: f64,
    spread: f64,
}

/// What was measured, by topology and name of the row.
#[derive(Default)]
struct Found(BTreeMap<(&'static str, String), Cost>);

/// A row's cost against its budget.
struct Standing {
    budget: String,
    is: String,
    within: bool,
}

impl Found {
    fn cost(&self, machine: &Machine, name: &str) -> Option<Cost> {
        self.0.get(&(machine.topology, name.to_owned())).copied()
    }

    fn of(&self, row: &Row) -> Option<Cost> {
        self.cost(row.machine, row.name)
    }

    /// How many times the program that does nothing in the same hook.
    fn times_bare(&self, row: &Row) -> Option<f64> {
        let (hook, _) = row.name.split_once('/')?;
        let bare = self.cost(row.machine, &format!("{hook}/bare"))?;
        row.is_addition()
            .then_some(self.of(row)?.instructions / bare.instructions)
    }

    fn standing(&self, row: &Row) -> Option<Standing> {
        let is = self.of(row)?.instructions;
        match row.budget.as_ref()? {
            Budget::Instructions(most) => Some(Standing {
                budget: format!("{most:.0}"),
                is: format!("{is:.0}"),
                within: is <= *most,
            }),
            Budget::Times(most, of) => {
                let times = is / self.cost(&SMALL, of)?.instructions;
                Some(Standing {
                    budget: format!("{most:.1} x {}", title(of)),
                    is: format!("{times:.2} x"),
                    within: times <= *most,
                })
            }
        }
    }

    /// Notes a line of the guest: `row NAME INSTRUCTIONS SPREAD`.
    fn note(&mut self, machine: &'static Machine, line: &str) -> Option<()> {
        let mut words = line.strip_prefix("row ")?.split(' ');
        let name = words.next()?.to_owned();
        let cost = Cost {
            instructions: words.next()?.parse().ok()?,
            spread: words.next()?.parse().ok()?,
        };
        self.0.insert((machine.topology, name), cost);
        Some(())
    }
}

/// The row of a budget, in words.
fn title(name: &str) -> &str {
    match name {
        ADMITTED => "admitted",
        BOUND => "bound",
        _ => "bare",
    }
}

/// Measures and prints. Returns whether to exit with success.
///
/// # Errors
/// When a guest cannot be set up or does not get to the end of its measurements.
pub(crate) fn run(args: &Args) -> Result<bool> {
    setup::packages()?;
    build::programs(args.no_build)?;
    let cache = Cache::open()?;
    let kernel = kernels::get(&cache, &args.kernel)?;
    let (qemu, busybox) = (userland::qemu(&cache)?, userland::busybox(&cache)?);
    let root = args.peers.then(|| userland::peers(&cache)).transpose()?;
    drop(cache);
    let mut found = Found::default();
    if let Some(root) = root {
        let mut image = image(&busybox, &peers::MACHINE)?;
        peers::add(&root, &mut image)?;
        let mut guest = guest(&qemu, &kernel, &peers::MACHINE)?;
        guest.append.push(peers::LSMS.to_owned());
        measure(&peers::MACHINE, &guest, &image, &mut found)?;
        return peers::show(args, &kernel, &found);
    }
    for machine in [&SMALL, &BIG] {
        let guest = guest(&qemu, &kernel, machine)?;
        measure(machine, &guest, &image(&busybox, machine)?, &mut found)?;
    }
    let standings = || ROWS.iter().filter_map(|row| found.standing(row));
    let (all, missed) = (
        standings().count(),
        standings().filter(|one| !one.within).count(),
    );
    if args.json {
        println!("{:#}", report(&kernel.series, &found));
    } else {
        println!("Instructions that a launch costs on {}:\n", kernel.series);
        println!("{}", table(&found));
        println!("\n{} of {all} budgets met", all - missed);
    }
    Ok(missed == 0 || !args.check)
}

fn image(busybox: &Path, machine: &Machine) -> Result<Image> {
    let script = format!("exec /bin/coregate-vm bench {}", machine.word);
    let mut image = Image::new(busybox, &script);
    for program in build::PROGRAMS {
        image.program(&format!("bin/{program}"), &build::program(program))?;
    }
    Ok(image)
}

fn guest(qemu: &Root, kernel: &Kernel, machine: &Machine) -> Result<Guest> {
    let topology: Topology = machine.topology.parse().map_err(anyhow::Error::msg)?;
    Ok(Guest {
        qemu: qemu.clone(),
        kernel: kernel.clone(),
        topology,
        memory: machine.memory,
        icount: true,
        append: Vec::new(),
        limits: Limits {
            total: Duration::from_secs(30 * 60),
            silent: Duration::from_secs(10 * 60),
        },
        dir: build::target_dir().join(format!("guest/bench-{}", machine.topology)),
    })
}

/// Boots a guest and notes what it found.
fn measure(
    machine: &'static Machine,
    guest: &Guest,
    image: &Image,
    found: &mut Found,
) -> Result<()> {
    eprintln!(
        "measuring on {} with {}",
        guest.kernel.series, machine.title
    );
    let code = guest.run(image, &mut |line| {
        if found.note(machine, line).is_none() {
            eprintln!("{line}");
        }
    })?;
    ensure!(code == 0, "the bench failed with {code} in the guest");
    Ok(())
}

fn table(found: &Found) -> String {
    let head = [
        "",
        "instructions",
        "spread",
        "x bare",
        "budget",
        "is",
        "within",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    let mut machine = "";
    for row in ROWS {
        if machine != row.machine.title {
            machine = row.machine.title;
            let mut line = [const { String::new() }; 7];
            line[0] = format!("{machine}:");
            lines.push(line);
        }
        lines.extend(line(found, row));
    }
    aligned(&lines)
}

/// A line of the table; none where this kernel has nothing to measure.
fn line(found: &Found, row: &Row) -> Option<[String; 7]> {
    let cost = found.of(row)?;
    let standing = found.standing(row);
    let (budget, is, within) = standing.map_or_else(Default::default, |standing| {
        let within = if standing.within { "yes" } else { "NO" };
        (standing.budget, standing.is, within.to_owned())
    });
    Some([
        format!("  {}", row.what),
        format!("{:.0}", cost.instructions),
        format!("{:.0}", cost.spread),
        found
            .times_bare(row)
            .map_or_else(String::new, |times| format!("{times:.2}")),
        budget,
        is,
        within,
    ])
}

/// Columns of equal width, the first one to the left.
fn aligned<const COLUMNS: usize>(lines: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].len());
        widths.max().unwrap_or(0)
    };
    let rows = lines.iter().map(|line| {
        let mut text = format!("{:width$}", line[0], width = width(0));
        for (column, cell) in line.iter().enumerate().skip(1) {
            let _ = write!(text, "  {cell:>width$}", width = width(column));
        }
        text.trim_end().to_owned()
    });
    rows.collect::<Vec<_>>().join("\n")
}

fn report(series: &str, found: &Found) -> Value {
    let rows = ROWS.iter().filter_map(|row| {
        let cost = found.of(row)?;
        let standing = found.standing(row);
        Some(json!({
            "name": row.name,
            "what": row.what,
            "topology": row.machine.topology,
            "instructions": cost.instructions,
            "spread": cost.spread,
            "times_bare": found.times_bare(row),
            "budget": standing.as_ref().map(|one| &one.budget),
            "is": standing.as_ref().map(|one| &one.is),
            "within": standing.as_ref().map(|one| one.within),
        }))
    });
    json!({ "kernel": series, "rows": rows.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&str]) -> Found {
        let mut found = Found::default();
        for line in lines {
            found.note(&SMALL, line).expect(line);
        }
        found
    }

    fn standing(found: &Found, name: &str) -> Option<bool> {
        let row = ROWS.iter().find(|row| row.name == name)?;
        found.standing(row).map(|standing| standing.within)
    }

    #[test]
    fn a_budget_is_met_or_missed() {
        let found = found(&[
            "row exec/bare 170 2",
            "row fork/bare 170 2",
            "row exec/unmatched 340 2",
            "row exec/admitted 5001 2",
            "row exec/admitted-10000 5200 2",
        ]);
        assert_eq!(standing(&found, "exec/unmatched"), Some(true));
        assert_eq!(standing(&found, "exec/admitted"), Some(false));
        assert_eq!(standing(&found, "exec/admitted-10000"), Some(true));
        assert_eq!(standing(&found, "exec/bare"), None);
        assert_eq!(standing(&found, "fork/gate"), None);
    }

    #[test]
    fn other_lines_are_no_rows() {
        let mut found = Found::default();
        for line in [
            "",
            "row",
            "row exec/bare",
            "row exec/bare x 1",
            "round 1 of 3",
        ] {
            assert_eq!(found.note(&SMALL, line), None, "{line}");
        }
    }

    #[test]
    fn each_row_has_one_name_and_each_budget_a_row() {
        for (number, row) in ROWS.iter().enumerate() {
            let twin = |other: &&Row| {
                other.name == row.name && other.machine.topology == row.machine.topology
            };
            assert_eq!(ROWS.iter().position(|other| twin(&other)), Some(number));
            if let Some(Budget::Times(_, of)) = row.budget {
                assert!(ROWS.iter().any(|other| other.name == of), "{of}");
            }
        }
    }
}
