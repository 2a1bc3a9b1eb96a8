// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask bench`: what a launch costs, in instructions, against the budgets.

pub(crate) mod companion;
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
use crate::{build, docs, kernels, setup, userland};

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
    /// Also measure on machines of other sizes
    #[arg(long)]
    sizes: bool,
    /// Put the tables of all sizes into docs/performance.md, or that of the companion
    #[arg(long, conflicts_with_all = ["json", "peers"])]
    write: bool,
    /// Measure only this, on 8 CPUs: `matched`, `scale`, `reload`, `rest`; or what runs beside
    /// programs that hold cores: `companion`
    #[arg(long, value_name = "PART", conflicts_with_all = ["sizes", "peers"])]
    only: Option<String>,
    /// Compare with AppArmor, fapolicyd and auditd instead
    #[arg(long, conflicts_with = "sizes")]
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
    word: "big",
    memory: 2048,
};

/// Those that only `--sizes` measures.
const SIZES: [Machine; 4] = [
    size("2x4x2x2", "16 CPUs, 2 nodes"),
    size("2x8x2x2", "32 CPUs, 2 nodes"),
    size("2x16x2x2", "64 CPUs, 2 nodes"),
    size("8x4x2x8", "64 CPUs, 8 nodes"),
];

const fn size(topology: &'static str, title: &'static str) -> Machine {
    Machine {
        topology,
        title,
        word: "matched",
        memory: 2048,
    }
}

/// At least so many a core does in a nanosecond of what a reload is: parsing, hashing, copying.
const INSTRUCTIONS_PER_NS: f64 = 2.5;

/// The most that a row may cost.
enum Budget {
    /// So many instructions, or what else the row counts.
    Most(f64),
    /// So many milliseconds, at [`INSTRUCTIONS_PER_NS`].
    Milliseconds(f64),
    /// So many times the row of this name on the small machine.
    Times(f64, &'static str),
}

/// A line of the table.
struct Row {
    machine: &'static Machine,
    /// The name that `coregate-vm bench` prints.
    name: &'static str,
    what: &'static str,
    /// The row of the same machine that it is compared with; without one, a row of another
    /// machine is compared with the one of its name on the small machine.
    base: Option<&'static str>,
    budget: Option<Budget>,
}

const FORK_BARE: &str = "fork/bare";
const UNMATCHED: &str = "exec/unmatched";
const UNMATCHED_MIXED: &str = "exec/unmatched-mixed";
const ADMITTED: &str = "exec/admitted";
const ADMITTED_MIXED: &str = "exec/admitted-mixed";
const CHILD: &str = "child/admitted";
const BOUND: &str = "exec/admitted-bound";
const SPREAD: &str = "exec/admitted-spread";
const NO_CLAIMS: &str = "exec/claims-0";
const NO_CLAIMS_NODE: &str = "exec/claims-0-node";

/// What a matching launch may cost.
const LAUNCH: Budget = Budget::Most(5_000.0);

/// The table, and all budgets.
const ROWS: &[&[Row]] = &[
    &[
        row("exec/none", "exec: the failing execve itself, no program"),
        row("exec/bare", "exec: a program that returns 0"),
        row(UNMATCHED, "exec: no rule matches").within(Budget::Times(2.0, FORK_BARE)),
        row("exec/namesake", "exec: no rule matches, one has the name"),
        row(ADMITTED, SCAN).within(LAUNCH),
        row(CHILD, NEW),
        row("exec/admitted-node", "exec: admitted, node mask").within(LAUNCH),
        row("exec/admitted-flat", "exec: admitted, flat mask").within(LAUNCH),
        row("exec/admitted-woken", "exec: admitted, the daemon is woken").within(LAUNCH),
        row(
            "exec/admitted-10000",
            "exec: admitted, 10,000 rules, not 10",
        )
        .over(ADMITTED)
        .within(Budget::Times(1.1, ADMITTED)),
        row(
            "exec/unmatched-10000",
            "exec: no rule matches, 10,000 rules",
        )
        .over(UNMATCHED)
        .within(Budget::Times(2.0, FORK_BARE)),
        row(UNMATCHED_MIXED, "exec: no rule matches, rules of all kinds"),
        row(
            "exec/unmatched-mixed-10000",
            "exec: the same, 10,000, not 10",
        )
        .over(UNMATCHED_MIXED)
        .within(Budget::Times(1.1, UNMATCHED_MIXED)),
        row(ADMITTED_MIXED, "exec: admitted, rules of all kinds"),
        row(
            "exec/admitted-mixed-10000",
            "exec: the same, 10,000, not 10",
        )
        .over(ADMITTED_MIXED)
        .within(Budget::Times(1.1, ADMITTED_MIXED)),
        row("reload/read", "reload: 10,000 rules, read and checked"),
        row("reload/all", "reload: compiled, filled in, and holding")
            .within(Budget::Milliseconds(200.0)),
        row("rest/runs", "rest: times the daemon runs in a minute").within(Budget::Most(0.0)),
        row("rest/resident", "rest: KiB resident, 10,000 rules").within(Budget::Most(10_240.0)),
        row(BOUND, CONFINED),
        row(SPREAD, ALL_NODES),
        row("exec/denied", "exec: denied"),
        row("exec/observed", "exec: would be denied, mode observe"),
        row("fork/none", "fork: child, end and wait, no program"),
        row(FORK_BARE, "fork: a program that returns 0"),
        row("fork/hook", "fork: no rule watches forks, in task_alloc")
            .within(Budget::Times(1.3, FORK_BARE)),
        row("fork/gate", "fork: the same, and the child's exit and end"),
        row(NO_CLAIMS, "claims: room for 1,024, none live"),
        row("exec/claims-10", "claims: 10 live on the other node").over(NO_CLAIMS),
        row("exec/claims-100", "claims: 100 live").over(NO_CLAIMS),
        row("exec/claims-1000", "claims: 1,000 live").over(NO_CLAIMS),
        row(NO_CLAIMS_NODE, "claims: node mask, none live"),
        row("exec/claims-10-node", "claims: node mask, 10 live").over(NO_CLAIMS_NODE),
        row("exec/claims-100-node", "claims: node mask, 100 live").over(NO_CLAIMS_NODE),
        row("exec/claims-1000-node", "claims: node mask, 1,000 live").over(NO_CLAIMS_NODE),
        row(RUNNING, "claims: 1 program runs on its core").over(ADMITTED),
        row(ELSEWHERE, "claims: 2 programs run on another node").over(ADMITTED),
    ],
    &[
        row(ADMITTED, SCAN)
            .on(&BIG)
            .within(Budget::Times(2.0, ADMITTED)),
        row(CHILD, NEW).on(&BIG),
        row(BOUND, CONFINED)
            .on(&BIG)
            .within(Budget::Times(2.0, BOUND)),
        row(SPREAD, ALL_NODES).on(&BIG),
        row("exec/sleeping", "claims: 10 programs sleep")
            .on(&BIG)
            .over(ADMITTED),
        row(RUNNING, "claims: 7 programs run on their cores")
            .on(&BIG)
            .over(ADMITTED),
        row(ELSEWHERE, "claims: 8 programs run on another node")
            .on(&BIG)
            .over(ADMITTED),
    ],
    &sized(&SIZES[0]),
    &sized(&SIZES[1]),
    &sized(&SIZES[2]),
    &sized(&SIZES[3]),
];

const RUNNING: &str = "exec/running";
const ELSEWHERE: &str = "exec/running-elsewhere";

const SCAN: &str = "exec: admitted, runqueue scan";
const NEW: &str = "fork, exec and end: admitted";
const CONFINED: &str = "exec: admitted, caller bound to its node";
const ALL_NODES: &str = "exec: admitted, cores of every node";

/// The rows that depend on the size of the machine.
const fn sized(machine: &'static Machine) -> [Row; 4] {
    [
        row(ADMITTED, SCAN).on(machine),
        row(CHILD, NEW).on(machine),
        row(BOUND, CONFINED).on(machine),
        row(SPREAD, ALL_NODES).on(machine),
    ]
}

fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().copied().flatten()
}

const fn row(name: &'static str, what: &'static str) -> Row {
    Row {
        machine: &SMALL,
        name,
        what,
        base: None,
        budget: None,
    }
}

impl Row {
    const fn within(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    const fn over(mut self, base: &'static str) -> Self {
        self.base = Some(base);
        self
    }

    const fn on(mut self, machine: &'static Machine) -> Self {
        self.machine = machine;
        self
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

    /// How many times the row that it is compared with.
    fn growth(&self, row: &Row) -> Option<f64> {
        let small = (row.machine.topology != SMALL.topology).then_some((&SMALL, row.name));
        let (machine, name) = row.base.map(|name| (row.machine, name)).or(small)?;
        Some(self.of(row)?.instructions / self.cost(machine, name)?.instructions)
    }

    fn standing(&self, row: &Row) -> Option<Standing> {
        let is = self.of(row)?.instructions;
        match row.budget.as_ref()? {
            Budget::Most(most) => Some(Standing {
                budget: format!("{most:.0}"),
                is: format!("{is:.0}"),
                within: is <= *most,
            }),
            Budget::Milliseconds(most) => {
                let is = is / INSTRUCTIONS_PER_NS / 1e6;
                Some(Standing {
                    budget: format!("{most:.0} ms"),
                    is: format!("{is:.0} ms"),
                    within: is <= *most,
                })
            }
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
        ADMITTED | ADMITTED_MIXED => "admitted",
        UNMATCHED_MIXED => "unmatched",
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
    if args.only.as_deref() == Some(companion::MACHINE.word) {
        let machine = &companion::MACHINE;
        let image = image(&busybox, machine.word)?;
        return companion::show(args, &guest(&qemu, &kernel, machine)?, &image);
    }
    ensure!(
        !args.write || args.only.is_none(),
        "--write takes all tables, or that of the companion"
    );
    let mut found = Found::default();
    if let Some(root) = root {
        let mut image = image(&busybox, peers::MACHINE.word)?;
        peers::add(&root, &mut image)?;
        let mut guest = guest(&qemu, &kernel, &peers::MACHINE)?;
        guest.append.push(peers::LSMS.to_owned());
        measure(&peers::MACHINE, &guest, &image, &mut found)?;
        return peers::show(args, &kernel, &found);
    }
    let sizes = if args.sizes || args.write {
        &SIZES[..]
    } else {
        &[]
    };
    let machines = [&SMALL, &BIG].into_iter().chain(sizes);
    for machine in machines.take(args.only.as_ref().map_or(usize::MAX, |_| 1)) {
        let guest = guest(&qemu, &kernel, machine)?;
        let word = args.only.as_deref().unwrap_or(machine.word);
        measure(machine, &guest, &image(&busybox, word)?, &mut found)?;
    }
    let standings = || rows().filter_map(|row| found.standing(row));
    let (all, missed) = (
        standings().count(),
        standings().filter(|one| !one.within).count(),
    );
    if args.json {
        println!("{:#}", report(&kernel.series, &found));
    } else {
        let text = format!(
            "Instructions that a launch costs on {}:\n\n{}\n\n{} of {all} budgets met\n",
            kernel.series,
            table(&found),
            all - missed
        );
        print!("{text}");
        if args.write {
            write(MARKS, &text)?;
        }
    }
    Ok(missed == 0 || !args.check)
}

/// What the tables stand between in the docs.
pub(crate) const MARKS: [&str; 2] = ["<!-- bench -->\n", "<!-- end of bench -->\n"];

/// Puts the table, as it was printed, into docs/performance.md.
fn write(marks: [&str; 2], table: &str) -> Result<()> {
    let lines = table.lines().map(|line| format!("    {line}"));
    let lines: Vec<_> = lines.map(|line| line.trim_end().to_owned()).collect();
    docs::put("docs/performance.md", marks, &lines.join("\n"))
}

fn image(busybox: &Path, word: &str) -> Result<Image> {
    let script = format!("exec /bin/coregate-vm bench {word}");
    let mut image = Image::new(busybox, &script);
    build::add_programs(&mut image)?;
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
        "growth",
        "budget",
        "is",
        "within",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    let mut machine = "";
    for row in rows().filter(|row| found.of(row).is_some()) {
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
            .growth(row)
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
    let rows = rows().filter_map(|row| {
        let cost = found.of(row)?;
        let standing = found.standing(row);
        Some(json!({
            "name": row.name,
            "what": row.what,
            "topology": row.machine.topology,
            "machine": row.machine.title,
            "instructions": cost.instructions,
            "spread": cost.spread,
            "growth": found.growth(row),
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
        let row = rows().find(|row| row.name == name)?;
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
        assert_eq!(standing(&found, "fork/hook"), None);
    }

    #[test]
    fn a_row_grows_over_its_base_or_the_small_machine() {
        let mut found = found(&["row exec/admitted 4000 1", "row exec/running 5000 1"]);
        found.note(&BIG, "row exec/admitted 6000 1");
        found.note(&BIG, "row exec/running 9000 1");
        let growths = rows().filter_map(|row| found.growth(row));
        assert_eq!(growths.collect::<Vec<_>>(), [1.25, 1.5, 1.5]);
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
        for (number, row) in rows().enumerate() {
            let twin = |other: &&Row| {
                other.name == row.name && other.machine.topology == row.machine.topology
            };
            assert_eq!(rows().position(|other| twin(&other)), Some(number));
            if let Some(Budget::Times(_, of)) = row.budget {
                assert!(rows().any(|other| other.name == of), "{of}");
            }
            if let Some(base) = row.base {
                let same = |other: &&Row| other.machine.topology == row.machine.topology;
                assert!(
                    rows().filter(same).any(|other| other.name == base),
                    "{base}"
                );
            }
        }
    }
}
