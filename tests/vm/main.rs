// SPDX-License-Identifier: GPL-2.0-only
//! coregate's tests against a real kernel. They load BPF programs and schedulers, so they
//! run inside a guest only; `--list` works anywhere.

mod admission;
mod agreement;
mod association;
mod bench;
mod claims;
mod companion;
mod daemon;
mod evasion;
mod gate;
mod honour;
mod idle;
mod keys;
mod launch;
mod log;
mod machine;
mod matching;
mod metrics;
mod mode;
mod oracle;
mod others;
mod persist;
mod random;
mod reload;
mod run;
mod schedulers;
mod servant;
mod skel;
mod smtmask;
mod socket;
mod strangers;
mod suggest;
mod systemd;
mod top;
mod topology;
mod truth;

use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

/// Where a test can run.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    /// Every kernel.
    Nothing,
    /// Any kernel: what it tests does not hang on that, so the oldest and the newest will do.
    AnyKernel,
    /// One kernel: what it tests is the daemon's alone.
    OneKernel,
    /// The kernel of the Debian release that guests with systemd have: what it tests is that
    /// release's.
    OfTheRelease,
    /// A kernel with sched_ext; Debian's have it from 6.16 on.
    SchedExt,
    /// One that takes calls of each function of sched_ext that coregate uses: not [`REFUSING`].
    WholeSchedExt,
    /// Any of these: what it tests does not hang on that, so the newest will do.
    AnySchedExt,
    /// One of these that stands a CPU's coming and going under a scheduler: 6.16 at times deadlocks
    /// then, between the hotplug and the scheduler's end.
    SchedExtHotplug,
    /// A kernel that associates programs with schedulers, and whose schedulers may number CPUs in
    /// their own way: those with sub-schedulers must.
    SubSchedulers,
    /// A kernel with `AT_EXECVE_CHECK`, so from 6.14 on.
    ExecveCheck,
}

/// The series of which each build that Debian has refuses calls of functions that the companion needs
/// (docs/kernel-support.md).
const REFUSING: (u32, u32) = (7, 1);

impl Needs {
    fn met_by(self, series: (u32, u32), left_out: LeftOut) -> bool {
        match self {
            Self::Nothing => true,
            Self::AnyKernel => left_out != LeftOut::AnyKernel,
            Self::OneKernel => left_out == LeftOut::Nothing,
            Self::OfTheRelease => series == (6, 12),
            Self::SchedExt => series >= (6, 16),
            Self::WholeSchedExt => series >= (6, 16) && series != REFUSING,
            Self::AnySchedExt => {
                Self::WholeSchedExt.met_by(series, left_out) && left_out != LeftOut::AnyKernel
            }
            Self::SchedExtHotplug => {
                Self::WholeSchedExt.met_by(series, left_out) && series >= (6, 17)
            }
            Self::SubSchedulers => series >= (7, 2),
            Self::ExecveCheck => series >= (6, 14),
        }
    }
}

/// What is not run as it runs on other kernels.
#[derive(Clone, Copy, PartialEq)]
enum LeftOut {
    Nothing,
    OneKernel,
    /// And what one is enough for.
    AnyKernel,
}

/// One test: where it runs, and what it does.
struct Test {
    name: &'static str,
    needs: Needs,
    /// The topologies it runs on, by xtask's names for them.
    on: &'static [&'static str],
    run: fn() -> Result<()>,
}

/// The topology of most tests: 2 sockets x 2 cores x 2 threads, 2 NUMA nodes.
const NUMA: &[&str] = &["numa"];
/// The same, with a clock that counts instructions, where times are compared.
const ICOUNT: &[&str] = &["icount"];
/// Those on which cores must be counted right.
const COUNTED: &[&str] = &["numa", "one-node", "smt-off", "smt4"];
/// The same, and one whose cores have as many threads as any: a slow one.
const COUNTED_MOST: &[&str] = &["numa", "one-node", "smt-off", "smt4", "smt8"];

fn tests() -> Vec<Test> {
    [
        admission::TESTS,
        agreement::TESTS,
        association::TESTS,
        claims::TESTS,
        companion::TESTS,
        companion::groups::TESTS,
        companion::stress::TESTS,
        companion::replay::tests::TESTS,
        companion::whole::TESTS,
        daemon::TESTS,
        evasion::TESTS,
        honour::TESTS,
        idle::TESTS,
        keys::TESTS,
        log::TESTS,
        matching::TESTS,
        metrics::TESTS,
        mode::TESTS,
        persist::TESTS,
        random::TESTS,
        reload::TESTS,
        run::TESTS,
        smtmask::TESTS,
        socket::TESTS,
        strangers::TESTS,
        suggest::TESTS,
        systemd::TESTS,
        systemd::companion::TESTS,
        systemd::docs::TESTS,
        systemd::life::TESTS,
        systemd::limits::TESTS,
        systemd::log::TESTS,
        systemd::package::TESTS,
        systemd::rights::TESTS,
        systemd::run::TESTS,
        systemd::storm::TESTS,
        top::TESTS,
        topology::TESTS,
        truth::TESTS,
    ]
    .into_iter()
    .flatten()
    .map(|test| Test { ..*test })
    .collect()
}

/// What this program is told besides what libtest takes.
struct Place {
    series: (u32, u32),
    topology: String,
    left_out: LeftOut,
    /// Which part of the tests, from 1, of how many.
    part: (usize, usize),
}

/// What was asked for with `--soak`: seconds, or rounds.
static SOAK: OnceLock<u64> = OnceLock::new();

/// How long or how often a test runs that can soak, if that was asked for.
fn soak() -> Option<u64> {
    SOAK.get().copied()
}

/// `--series MAJOR.MINOR --topology NAME [--leave-out one|any] [--soak N] [--part K/N]`, then what libtest takes.
fn arguments() -> Option<(Place, Arguments)> {
    let mut words: Vec<String> = std::env::args().collect();
    let mut take = |flag: &str| {
        let at = words.iter().position(|word| word == flag)?;
        words.remove(at);
        (at < words.len()).then(|| words.remove(at))
    };
    let series = take("--series")?;
    let topology = take("--topology")?;
    if let Some(soak) = take("--soak") {
        let _ = SOAK.set(soak.parse().ok()?);
    }
    let left_out = match take("--leave-out").as_deref() {
        None => LeftOut::Nothing,
        Some("one") => LeftOut::OneKernel,
        Some("any") => LeftOut::AnyKernel,
        Some(_) => return None,
    };
    let part = take("--part").unwrap_or("1/1".into());
    let (part, parts) = part.split_once('/')?;
    let part = (part.parse().ok()?, parts.parse().ok()?);
    let (major, minor) = series.split_once('.')?;
    let series = (major.parse().ok()?, minor.parse().ok()?);
    let place = Place {
        series,
        topology,
        left_out,
        part,
    };
    Some((place, Arguments::from_iter(words)))
}

/// Runs one test on all CPUs, wherever the one before it left this thread.
fn alone(test: fn() -> Result<()>) -> Result<()> {
    machine::pin(&machine::cpus()?)?;
    test()
}

/// Does what a test tells it to, if a test started it for that.
fn serve() -> Option<Result<()>> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[..] {
        [claims::contenders::WORD, count, path] => Some(claims::contenders::serve(count, path)),
        [keys::WORD, name, target] => Some(keys::serve(name, target)),
        [socket::FLOOD] => Some(socket::serve()),
        [others::WORD] => Some(others::serve()),
        [top::RECORD, columns, lines, seconds, ref words @ ..] => {
            Some(top::record([columns, lines, seconds], words))
        }
        [agreement::launcher::WORD, place] => Some(agreement::launcher::serve(place)),
        _ => None,
    }
}

fn main() -> ExitCode {
    // What this program does when a test launches it.
    if let Some(code) = launch::perform().or_else(bench::perform) {
        return code;
    }
    if let Some(served) = serve() {
        return match served {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("coregate-vm: {error:?}");
                ExitCode::FAILURE
            }
        };
    }
    let Some((place, mut arguments)) = arguments() else {
        eprintln!(
            "usage: coregate-vm --series MAJOR.MINOR --topology NAME [--leave-out one|any] [--soak N] \
             [--part K/N] [--list] [FILTER]"
        );
        return ExitCode::from(2);
    };
    if !arguments.list && !machine::is_guest() {
        eprintln!("coregate-vm: this is no guest of 'cargo xtask': nothing is run here");
        return ExitCode::from(2);
    }
    arguments.test_threads = Some(1);
    let here: Vec<_> = tests()
        .into_iter()
        .filter(|test| {
            test.needs.met_by(place.series, place.left_out)
                && test.on.contains(&place.topology.as_str())
        })
        .collect();
    let (part, parts) = place.part;
    let size = here.len().div_ceil(parts.max(1));
    let trials = here
        .into_iter()
        .skip(part.saturating_sub(1) * size)
        .take(size)
        .map(|test| {
            Trial::test(test.name, move || {
                alone(test.run).map_err(|error| Failed::from(format!("{error:?}")))
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
