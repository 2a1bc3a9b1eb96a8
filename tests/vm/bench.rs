// SPDX-License-Identifier: GPL-2.0-only
//! What a launch costs, in instructions: `coregate-vm bench WHAT` in a guest whose clock
//! counts them. docs/performance.md says how.

mod claims;
mod companion;
mod measurer;
mod peers;
mod rest;
mod scale;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libbpf_rs::ProgramMut;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;

use crate::gate::Gate;
use crate::machine::{cores, cpus, is_guest, node_cores, node_cpus, pin};
use crate::schedulers::{Scheduler, Tracking, settle, wait_until_none};
use crate::skel::bare::{BareSkel, BareSkelBuilder};
use measurer::{BLOCK, Launch, Measurer};

/// The word after the program's name that makes it measure.
const WORD: &str = "bench";

/// The node whose cores the launches are judged by; nothing else runs there.
const NODE: u32 = 1;

/// How often everything is measured, after a first time without the gate that does not count.
const ROUNDS: usize = 2;

/// After it no work is left over from boot. The clock of the guest skips time without work.
const BOOTED: Duration = Duration::from_secs(10);

/// No rule names this file.
const STRANGER: &str = "/usr/bin/bench-stranger";
/// A rule names a file of this name, in another folder.
const NAMESAKE: &str = "/usr/sbin/bench-admitted";
/// A rule of one core.
const ADMITTED: &str = "/usr/bin/bench-admitted";
/// A rule of more cores than can be free where the caller runs.
const DENIED: &str = "/usr/bin/bench-denied";

/// A rule of all cores of the machine but half a node's, so of some of each node.
const SPREAD: &str = "/usr/bin/bench-spread";

/// An exec that no rule matches.
const STRANGE_EXEC: Launch<'_> = Launch::Exec(STRANGER, Errno::ENOEXEC);

const FILES: [&str; 5] = [STRANGER, NAMESAKE, ADMITTED, DENIED, SPREAD];

/// Measures, or launches to be measured, if this program was started for it.
pub(crate) fn perform() -> Option<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        [measurer::WORD | WORD, _] if !is_guest() => {
            eprintln!("coregate-vm: this is no guest of 'cargo xtask': nothing is measured here");
            return Some(ExitCode::from(2));
        }
        [measurer::WORD, cpu] => measurer::serve(cpu),
        [WORD, "all"] => run(|bench| bench.rounds(ROUNDS, all)),
        [WORD, "big"] => run(|bench| bench.rounds(ROUNDS, big)),
        [WORD, "scale"] => run(|bench| bench.rounds(ROUNDS, scaled)),
        [WORD, "rest"] => run(|bench| bench.rounds(1, rest::all)),
        [WORD, "reload"] => run(|bench| bench.rounds(ROUNDS, scale::reload)),
        [WORD, "matched"] => run(|bench| bench.rounds(ROUNDS, matched)),
        [WORD, "peers"] => run(peers::all),
        [WORD, "companion"] => companion::all(),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coregate-vm: {error:?}");
            ExitCode::FAILURE
        }
    })
}

/// The bench: what launches, where, and what was found.
struct Bench {
    measurer: Measurer,
    cpu: u32,
    /// Instructions inside of the bare programs, at an exec and a fork, and of the kernel's taking of
    /// times.
    inside_bare: [f64; 2],
    found: BTreeMap<&'static str, Vec<f64>>,
}

/// What a block under the gate is compared with: the same launch without the gate.
#[derive(Clone, Copy, PartialEq)]
enum Without {
    /// By file: another path costs another sum.
    Exec(&'static str),
    /// The same, of a new child that ends then.
    Child(&'static str),
    /// An exec that is denied in the gate's hook.
    Denial,
    Fork,
}

/// A block under the gate: its row, what it cost, what it is compared with.
type Block = (&'static str, f64, Without);

/// Sets up, measures, and prints a line for each row: its name, the median of its rounds,
/// and how far they lie apart.
fn run(measure: impl FnOnce(&mut Bench) -> Result<()>) -> Result<()> {
    for path in FILES {
        // Not a line that begins with "#!", and printable, so that no module is asked for.
        fs::create_dir_all(std::path::Path::new(path).parent().context("no folder")?)?;
        fs::write(path, "in no format that the kernel knows\n")?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    // The daemon must not wait until somebody reads a block of verdicts.
    fs::write("/proc/sys/net/unix/max_dgram_qlen", "4096")?;
    fs::write("/proc/sys/net/core/wmem_default", "8388608")?;

    let cpu = *node_cores(NODE)?
        .last()
        .and_then(|core| core.cpus.last())
        .context("no CPU")?;
    pin(&[0])?;
    std::thread::sleep(BOOTED);
    let mut bench = Bench {
        measurer: Measurer::start(cpu)?,
        cpu,
        inside_bare: [0.0; 2],
        found: BTreeMap::new(),
    };
    bench.measurer.allow(&cpus()?)?;
    bench.bare()?;
    bench.found.clear();
    measure(&mut bench)?;
    for (row, mut values) in bench.found {
        values.sort_unstable_by(f64::total_cmp);
        let spread = values[values.len() - 1] - values[0];
        let half = values.len() / 2;
        let median = f64::midpoint(values[half], values[values.len() - 1 - half]);
        println!("row {row} {median:.0} {spread:.0}");
    }
    Ok(())
}

/// What a launch is compared with that depends on the machine's size.
const SIZED: [Without; 3] = [
    Without::Exec(ADMITTED),
    Without::Child(ADMITTED),
    Without::Exec(SPREAD),
];

/// Every row.
fn all(bench: &mut Bench) -> Result<()> {
    bench.bare()?;
    let spinning = claims::Spinning::measure(bench)?;
    let others = [Without::Exec(NAMESAKE), Without::Denial, Without::Fork];
    let without = [&SIZED[..], &others].concat();
    bench.between(&policy("enforce", 10)?, &without, |bench, gate| {
        spinning.with_gate(bench, gate)?;
        bench.enforcing(gate)
    })?;
    let without = Without::Exec(DENIED);
    bench.between(&policy("observe", 10)?, &[without], |bench, gate| {
        let cost = bench.judged(gate, DENIED, ("logged", "runqueue"))?;
        Ok(vec![("exec/observed", cost, without)])
    })?;
    claims::prefilled(bench, None)?;
    scale::all(bench)?;
    rest::all(bench)?;
    if !fs::exists("/sys/kernel/sched_ext")? {
        return Ok(());
    }
    claims::prefilled(bench, Some(Tracking::PerNode))?;
    for (row, tracking) in [
        ("exec/admitted-node", Tracking::PerNode),
        ("exec/admitted-flat", Tracking::Flat),
    ] {
        let scheduler = Scheduler::load(tracking)?;
        bench.admitted(row, &policy("enforce", 10)?, tracking.source())?;
        drop(scheduler);
        wait_until_none()?;
    }
    Ok(())
}

/// Only what depends on the number of rules.
fn scaled(bench: &mut Bench) -> Result<()> {
    bench.bare()?;
    let without = [Without::Exec(ADMITTED)];
    bench.between(&policy("enforce", 10)?, &without, |bench, gate| {
        bench.unmatched("exec/unmatched")?;
        let cost = bench.judged(gate, ADMITTED, ("admitted", "runqueue"))?;
        Ok(vec![("exec/admitted", cost, without[0])])
    })?;
    scale::all(bench)
}

/// Only what depends on the machine's size.
fn matched(bench: &mut Bench) -> Result<()> {
    bench.between(&policy("enforce", 10)?, &SIZED, Bench::sized)
}

/// That, and real claims of more programs than a small machine has room for.
fn big(bench: &mut Bench) -> Result<()> {
    let spinning = claims::Spinning::measure(bench)?;
    bench.between(&policy("enforce", 10)?, &SIZED, |bench, gate| {
        spinning.with_gate(bench, gate)?;
        let mut blocks = bench.sized(gate)?;
        blocks.push(claims::sleeping(bench, gate)?);
        Ok(blocks)
    })
}

impl Bench {
    fn rounds(&mut self, rounds: usize, measure: impl Fn(&mut Self) -> Result<()>) -> Result<()> {
        for round in 1..=rounds {
            println!("round {round} of {rounds}");
            measure(self)?;
        }
        Ok(())
    }

    fn note(&mut self, row: &'static str, instructions: f64) {
        println!("{row}: {instructions:.0}");
        self.found.entry(row).or_default().push(instructions);
    }

    fn exec(&mut self, path: &str, expected: Errno) -> Result<f64> {
        self.measurer.block(Launch::Exec(path, expected))
    }

    /// The instructions inside of a program at launches that no rule matches, by the times that
    /// the kernel takes. Blocks do not show so little: what an exec itself costs depends on
    /// where the kernel finds memory for its counters, and that differs by some hundreds; and a fork
    /// goes through other programs, too.
    fn inside(&mut self, program: &str, launch: Launch<'_>) -> Result<f64> {
        const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
        let before = run_time(program)?;
        fs::write(SWITCH, "1")?;
        let block = self.measurer.block(launch);
        fs::write(SWITCH, "0")?;
        block?;
        let after = run_time(program)?;
        let runs = (after.1 - before.1) as f64;
        Ok((after.0 - before.0) as f64 / runs / measurer::NS_PER_INSTRUCTION)
    }

    fn fork(&mut self) -> Result<f64> {
        self.measurer.block(Launch::Fork)
    }

    fn baseline(&mut self, of: Without) -> Result<f64> {
        match of {
            Without::Exec(path) => self.exec(path, Errno::ENOEXEC),
            Without::Child(path) => self.measurer.block(Launch::Child(path)),
            Without::Denial => with_bare(
                |skel| &mut skel.progs.bare_denial,
                || self.exec(DENIED, Errno::EAGAIN),
            ),
            Without::Fork => self.fork(),
        }
    }

    fn baselines(&mut self, of: &[Without]) -> Result<Vec<f64>> {
        of.iter().map(|&of| self.baseline(of)).collect()
    }

    /// Measures blocks between two of what they are compared with, and notes the differences.
    fn compare(
        &mut self,
        with: &[Without],
        measure: impl FnOnce(&mut Self) -> Result<Vec<Block>>,
    ) -> Result<()> {
        let before = self.baselines(with)?;
        let blocks = measure(self)?;
        let after = self.baselines(with)?;
        for (row, cost, without) in blocks {
            let at = with.iter().position(|one| *one == without);
            let at = at.with_context(|| format!("{row}: compared with nothing"))?;
            self.note(row, cost - f64::midpoint(before[at], after[at]));
        }
        Ok(())
    }

    /// The kernel's own cost, and what the programs add that do nothing.
    fn bare(&mut self) -> Result<()> {
        let without = [Without::Exec(STRANGER), Without::Fork];
        self.compare(&without, |bench| {
            let exec = with_bare(
                |skel| &mut skel.progs.bare_exec,
                || bench.exec(STRANGER, Errno::ENOEXEC),
            )?;
            let inside_exec = with_bare(
                |skel| &mut skel.progs.bare_exec,
                || bench.inside("bare_exec", STRANGE_EXEC),
            )?;
            let inside_fork = with_bare(
                |skel| &mut skel.progs.bare_fork,
                || bench.inside("bare_fork", Launch::Fork),
            )?;
            bench.inside_bare = [inside_exec, inside_fork];
            let fork = with_bare(|skel| &mut skel.progs.bare_fork, || bench.fork())?;
            Ok(vec![
                ("exec/bare", exec, Without::Exec(STRANGER)),
                ("fork/bare", fork, Without::Fork),
            ])
        })?;
        let [exec, fork] = without.map(|of| self.baseline(of));
        self.note("exec/none", exec?);
        self.note("fork/none", fork?);
        Ok(())
    }

    /// Starts the gate, its daemon on the measurer's CPU: so its wake-up is seen, but with the
    /// lowest priority it runs only while the measurer sleeps.
    fn gate(&self, policy: &str) -> Result<Gate> {
        pin(&[self.cpu])?;
        set_policy(libc::SCHED_IDLE, 0)?;
        let gate = Gate::start(policy);
        set_policy(libc::SCHED_OTHER, 0)?;
        pin(&[0])?;
        gate
    }

    /// Runs the gate between two blocks of what is compared.
    fn between(
        &mut self,
        policy: &str,
        with: &[Without],
        measure: impl FnOnce(&mut Self, &Gate) -> Result<Vec<Block>>,
    ) -> Result<()> {
        self.compare(with, |bench| {
            let gate = bench.gate(policy)?;
            let blocks = measure(bench, &gate)?;
            gate.stop()?;
            Ok(blocks)
        })
    }

    /// What the gate, which runs, adds to an exec that no rule matches.
    fn unmatched(&mut self, row: &'static str) -> Result<()> {
        self.hook(row, "on_exec", STRANGE_EXEC, self.inside_bare[0])
    }

    /// What a program of the gate adds to its hook.
    fn hook(
        &mut self,
        row: &'static str,
        program: &str,
        launch: Launch<'_>,
        inside_bare: f64,
    ) -> Result<()> {
        let bare = self.found["fork/bare"].last().copied();
        let bare = bare.context("the bare program was not measured")?;
        let inside = self.inside(program, launch)?;
        self.note(row, bare + inside - inside_bare);
        Ok(())
    }

    /// All that is compared under one policy, without a scheduler.
    fn enforcing(&mut self, gate: &Gate) -> Result<Vec<Block>> {
        self.unmatched("exec/unmatched")?;
        self.hook("fork/hook", "on_fork", Launch::Fork, self.inside_bare[1])?;
        let mut blocks = self.sized(gate)?;
        let namesake = self.exec(NAMESAKE, Errno::ENOEXEC)?;
        let denied = self.judged(gate, DENIED, ("denied", "runqueue"))?;
        let woken = self.exec(ADMITTED, Errno::ENOEXEC)?;
        check(gate, ("admitted", "runqueue"))?;
        let fork = self.fork()?;
        blocks.extend([
            ("exec/namesake", namesake, Without::Exec(NAMESAKE)),
            ("exec/denied", denied, Without::Denial),
            ("exec/admitted-woken", woken, Without::Exec(ADMITTED)),
            ("fork/gate", fork, Without::Fork),
        ]);
        Ok(blocks)
    }

    /// Admitted launches that depend on the machine's size: of a task that may use every CPU,
    /// of one that may use its own node only, and one that needs cores of every node.
    fn sized(&mut self, gate: &Gate) -> Result<Vec<Block>> {
        let expected = ("admitted", "runqueue");
        let admitted = self.judged(gate, ADMITTED, expected)?;
        let child = self.judged_launch(gate, Launch::Child(ADMITTED), expected)?;
        self.measurer.allow(&node_cpus(NODE)?)?;
        let bound = self.judged(gate, ADMITTED, expected)?;
        self.measurer.allow(&cpus()?)?;
        let spread = self.judged(gate, SPREAD, expected)?;
        Ok(vec![
            ("exec/admitted", admitted, Without::Exec(ADMITTED)),
            ("child/admitted", child, Without::Child(ADMITTED)),
            ("exec/admitted-bound", bound, Without::Exec(ADMITTED)),
            ("exec/admitted-spread", spread, Without::Exec(SPREAD)),
        ])
    }

    /// Moves the measurer into this cgroup.
    fn enter(&self, cgroup: &str) -> Result<()> {
        fs::create_dir_all(cgroup)?;
        let procs = format!("{cgroup}/cgroup.procs");
        Ok(fs::write(procs, self.measurer.pid().to_string())?)
    }

    /// An admitted launch under a policy, judged by this source.
    fn admitted(&mut self, row: &'static str, policy: &str, source: &str) -> Result<()> {
        let without = Without::Exec(ADMITTED);
        self.between(policy, &[without], |bench, gate| {
            settle(gate)?;
            let cost = bench.judged(gate, ADMITTED, ("admitted", source))?;
            Ok(vec![(row, cost, without)])
        })
    }

    /// A block that a rule matches while the daemon is stopped, so that no launch wakes it;
    /// then looks whether the verdicts were what is to be measured.
    fn judged(&mut self, gate: &Gate, path: &str, expected: (&str, &str)) -> Result<f64> {
        let errno = if expected.0 == "denied" {
            Errno::EAGAIN
        } else {
            Errno::ENOEXEC
        };
        self.judged_launch(gate, Launch::Exec(path, errno), expected)
    }

    fn judged_launch(
        &mut self,
        gate: &Gate,
        launch: Launch<'_>,
        expected: (&str, &str),
    ) -> Result<f64> {
        gate.signal(Signal::SIGSTOP)?;
        let cost = self.measurer.block(launch);
        gate.signal(Signal::SIGCONT)?;
        check(gate, expected)?;
        cost
    }
}

/// Whether a block's verdicts had this effect, from this source. Now and then a kernel thread
/// runs on the free core.
fn check(gate: &Gate, (effect, source): (&str, &str)) -> Result<()> {
    let verdicts = gate.verdicts(BLOCK)?;
    let others = verdicts
        .iter()
        .filter(|verdict| verdict.effect() != effect || verdict.get("source") != source)
        .collect::<Vec<_>>();
    ensure!(
        others.len() * 10 < BLOCK,
        "{} of {BLOCK} were not {effect} by {source}, such as {:?}",
        others.len(),
        others[0]
    );
    Ok(())
}

/// Runs `measure` while one of the bare programs is attached.
fn with_bare(
    program: impl for<'a, 'obj> Fn(&'a mut BareSkel<'obj>) -> &'a mut ProgramMut<'obj>,
    measure: impl FnOnce() -> Result<f64>,
) -> Result<f64> {
    let mut storage = MaybeUninit::uninit();
    let mut skel = BareSkelBuilder::default().open(&mut storage)?.load()?;
    let _link = program(&mut skel).attach_lsm()?;
    measure()
}

/// Nanoseconds and runs of a loaded program, while that is counted.
fn run_time(program: &str) -> Result<(u64, u64)> {
    libbpf_rs::query::ProgInfoIter::default()
        .find(|info| info.name == program)
        .map(|info| (info.run_time_ns, info.run_cnt))
        .with_context(|| format!("no program {program} is loaded"))
}

/// Sets the scheduling policy of this thread and of what it starts.
pub(crate) fn set_policy(policy: libc::c_int, sched_priority: libc::c_int) -> Result<()> {
    let param = libc::sched_param { sched_priority };
    // SAFETY: the parameter lives through the call.
    let answer = unsafe { libc::sched_setscheduler(0, policy, &raw const param) };
    Ok(Errno::result(answer).map(drop)?)
}

/// A policy of so many rules, of which some are for files of ours. Names differ in their first
/// letters, as those of real programs do.
fn policy(mode: &str, rules: usize) -> Result<String> {
    let mut text = format!("[gate]\nmode = \"{mode}\"\nevent_rate = 0\n");
    let (all, node) = (cores()?.len(), node_cores(NODE)?.len());
    let ours = [
        (ADMITTED, "own_core = true".to_owned()),
        // All cores of a node: those are there only if the caller's own one counts.
        (DENIED, format!("cores = {node}\nown_core = false")),
        (
            SPREAD,
            format!("cores = {}\nscope = \"spread\"", all - node / 2),
        ),
        (claims::HOLDER, "scope = \"any\"".to_owned()),
    ];
    let others = (ours.len()..rules).map(|i| (format!("/usr/bin/{i:05}-server"), String::new()));
    let ours = ours.map(|(exe, more)| (exe.to_owned(), more));
    for (number, (exe, more)) in others.chain(ours).enumerate() {
        let _ = writeln!(
            text,
            "[[rule]]\nname = \"rule-{number}\"\nexe = \"{exe}\"\n{more}"
        );
    }
    Ok(text)
}
