// SPDX-License-Identifier: GPL-2.0-only
//! The tests that run in guests: which there are, and whether each of them
//! reported.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Args;
use super::libtest::{self, Outcome, Reader};
use super::report::Report;
use crate::cache::Cache;
use crate::guest::{Guest, Image, Limits, Topology};
use crate::kernels::Kernel;
use crate::userland::Root;
use crate::{build, command, debian, dist, kernels, userland};

/// How many tests one guest runs at most: so none runs on alone at the end, and one that hangs takes
/// few others along.
const MOST: usize = 40;

/// The tests of one guest.
pub(super) struct Batch {
    kernel: Kernel,
    topology: Topology,
    /// Which part of the tests for this kernel and topology, from 1.
    part: usize,
    /// The arguments of the test program.
    words: Vec<String>,
    names: Vec<String>,
}

impl Batch {
    fn place(&self) -> String {
        format!("{} {}", self.kernel.series, self.topology)
    }

    /// Whether the package is installed in it.
    fn installs(&self) -> bool {
        self.names.iter().any(|name| name.contains("package"))
    }

    fn dir(&self) -> PathBuf {
        let mut name = format!("{}-{}", self.kernel.series, self.topology);
        if self.part > 1 {
            name += &format!("-{}", self.part);
        }
        build::target_dir().join("guest").join(name)
    }
}

/// Fetches the kernels and asks the test program what it would run on each of
/// them in each topology. Pairs without a test are left out.
///
/// # Errors
/// When a kernel cannot be had or the test program gives no list.
pub(super) fn plan(args: &Args) -> Result<Vec<Batch>> {
    let cache = Cache::open()?;
    let mut batches = Vec::new();
    for series in args.series() {
        let kernel = kernels::get(&cache, &series)?;
        for topology in args.topologies(&series) {
            let whole = words(args, &series, &kernel, &topology);
            let parts = listed(&whole)?.len().div_ceil(MOST);
            for part in 1..=parts {
                let mut words = whole.clone();
                words.extend(["--part".to_owned(), format!("{part}/{parts}")]);
                let names = listed(&words)?;
                if !names.is_empty() {
                    batches.push(Batch {
                        kernel: kernel.clone(),
                        topology: topology.clone(),
                        part,
                        words,
                        names,
                    });
                }
            }
        }
    }
    Ok(batches)
}

/// The tests that the test program runs with these arguments.
fn listed(words: &[String]) -> Result<Vec<String>> {
    let program = build::program("coregate-vm");
    let text = command::output(Command::new(program).args(words).arg("--list"))?;
    Ok(libtest::listed(&text))
}

/// Prints what would run where.
pub(super) fn list(batches: &[Batch]) {
    for batch in batches {
        for name in &batch.names {
            println!("{:14} {name}", batch.place());
        }
    }
}

/// Guests that can be booted.
pub(super) struct Guests {
    batches: Vec<Batch>,
    tools: Tools,
}

/// Builds and fetches all that the guests need.
///
/// # Errors
/// When something cannot be built or had.
pub(super) fn prepare(args: &Args) -> Result<Guests> {
    build::programs(false)?;
    let mut batches = plan(args)?;
    // The longest first, so that none of them runs on alone at the end.
    batches.sort_by_key(|batch| Reverse(batch.names.len()));
    let tools = Tools::new(&Cache::open()?, &batches)?;
    Ok(Guests { batches, tools })
}

impl Guests {
    /// Boots a guest for each batch, `args.jobs` of them at a time.
    pub(super) fn run(self, report: &Report, args: &Args) {
        let queue = Mutex::new(VecDeque::from(self.batches));
        let next = || {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.pop_front()
        };
        thread::scope(|scope| {
            for _ in 0..args.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(batch) = next() {
                        if let Err(why) = boot(report, args, &self.tools, &batch) {
                            let said = format!("{why:#}");
                            report.failed(batch.place(), "the guest", Duration::ZERO, &said);
                        }
                    }
                });
            }
        });
    }
}

/// What guests are made of.
struct Tools {
    qemu: Root,
    busybox: PathBuf,
    /// Where one of them has systemd.
    disk: Option<PathBuf>,
    prometheus: Root,
    rsyslog: Root,
    stress: Root,
    audit: Root,
    /// Where one of them installs it.
    debs: Option<[PathBuf; 2]>,
}

impl Tools {
    fn new(cache: &Cache, batches: &[Batch]) -> Result<Self> {
        let systemd = batches.iter().any(|batch| batch.topology.has_systemd());
        let installs = batches.iter().any(Batch::installs);
        Ok(Self {
            qemu: userland::qemu(cache)?,
            busybox: userland::busybox(cache)?,
            disk: systemd.then(|| debian::disk(cache)).transpose()?,
            prometheus: userland::prometheus(cache)?,
            rsyslog: userland::rsyslog(cache)?,
            stress: userland::stress(cache)?,
            audit: userland::audit(cache)?,
            debs: installs.then(|| dist::debs(cache)).transpose()?,
        })
    }
}

fn image(tools: &Tools, batch: &Batch) -> Result<Image> {
    let script = format!("exec /bin/coregate-vm {}", quoted(&batch.words));
    let mut image = match &tools.disk {
        Some(disk) if batch.topology.has_systemd() => {
            let mut image = Image::systemd(&tools.busybox, disk, &script);
            image.folder("packaging", &build::repository().join("packaging"))?;
            let debs = tools.debs.iter().filter(|_| batch.installs());
            for deb in debs.flatten() {
                let name = deb.file_name().context("a package has a name")?;
                image.file(&format!("packages/{}", name.to_string_lossy()), deb, 0o644);
            }
            image
        }
        _ => {
            let mut image = Image::new(&tools.busybox, &script);
            userland::add_rsyslog(&tools.rsyslog, &mut image)?;
            image
        }
    };
    // They are larger than all the rest.
    if batch.names.iter().any(|name| name.contains("prometheus")) {
        for program in ["prometheus", "promtool"] {
            let source = tools.prometheus.path("usr/bin").join(program);
            image.program(&format!("bin/{program}"), &source)?;
        }
    }
    if batch.names.iter().any(|name| name.contains("stress")) {
        userland::add_stress(&tools.stress, &mut image)?;
    }
    if batch.names.iter().any(|name| name.contains("kernel_audit")) {
        userland::add_audit(&tools.audit, &mut image)?;
    }
    build::add_programs(&mut image)?;
    Ok(image)
}

/// Boots one guest, reports its tests as they end, and then those that failed
/// or never reported.
fn boot(report: &Report, args: &Args, tools: &Tools, batch: &Batch) -> Result<()> {
    let image = image(tools, batch)?;
    let guest = Guest {
        qemu: tools.qemu.clone(),
        kernel: batch.kernel.clone(),
        topology: batch.topology.clone(),
        memory: 1024,
        icount: batch.topology.counts_instructions(),
        append: Vec::new(),
        limits: limits(args),
        dir: batch.dir(),
    };
    let log = batch.dir().join("output.log");
    fs::create_dir_all(batch.dir())
        .with_context(|| format!("cannot make {}", batch.dir().display()))?;
    let mut out = BufWriter::new(
        File::create(&log).with_context(|| format!("cannot write {}", log.display()))?,
    );
    let mut watch = Watch::new(report, batch);
    let ended = guest.run(&image, &mut |line| {
        // A log that cannot be written fails the run at the flush below.
        let _ = writeln!(out, "{line}");
        watch.line(line);
    });
    out.flush()
        .with_context(|| format!("cannot write {}", log.display()))?;
    watch.close(&log, ended)
}

/// Follows the tests of one guest.
struct Watch<'a> {
    report: &'a Report,
    batch: &'a Batch,
    reader: Reader,
    missing: BTreeSet<&'a str>,
    failed: Vec<Outcome>,
    start: Instant,
}

impl<'a> Watch<'a> {
    fn new(report: &'a Report, batch: &'a Batch) -> Self {
        Self {
            report,
            batch,
            reader: Reader::new(),
            missing: batch.names.iter().map(String::as_str).collect(),
            failed: Vec::new(),
            start: Instant::now(),
        }
    }

    fn line(&mut self, line: &str) {
        let Some(outcome) = self.reader.line(line) else {
            return;
        };
        self.report.ran_in_guest();
        let listed = self.missing.remove(outcome.name.as_str());
        if listed && outcome.ok {
            let place = self.batch.place();
            self.report.passed(place, &outcome.name, outcome.time);
        } else {
            self.failed.push(outcome);
        }
    }

    /// Reports what did not pass, and the guest itself where that tells more.
    fn close(self, log: &Path, ended: Result<i32>) -> Result<()> {
        let place = self.batch.place();
        let all_ok = self.failed.is_empty() && self.missing.is_empty();
        for outcome in &self.failed {
            let said = match self.reader.said(&outcome.name) {
                "" if outcome.ok => "it is not in the list of the tests that run here",
                said => said,
            };
            let said = format!("{said}\nthe whole log: {}", log.display());
            self.report
                .failed(&place, &outcome.name, outcome.time, &said);
        }
        for name in &self.missing {
            let said = if self.reader.unfinished() == Some(name) {
                "it began and did not end"
            } else {
                "it did not report"
            };
            let said = format!("{said}; the whole log: {}", log.display());
            self.report
                .failed(&place, name, self.start.elapsed(), &said);
        }
        match ended {
            Ok(0) => Ok(()),
            Ok(_) if !all_ok => Ok(()),
            Ok(code) => anyhow::bail!("all tests passed, but the test program exited with {code}"),
            Err(why) => Err(why),
        }
    }
}

/// A soak test may take as long as it was asked to.
fn limits(args: &Args) -> Limits {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let (total, silent) = match args.soak {
        None => (minutes(45), minutes(5)),
        Some(_) => (minutes(12 * 60), minutes(4 * 60)),
    };
    Limits { total, silent }
}

/// The arguments of the test program, here and in the guest.
fn words(args: &Args, series: &str, kernel: &Kernel, topology: &Topology) -> Vec<String> {
    let mut words = vec![
        "--series".to_owned(),
        kernel.series.clone(),
        "--topology".to_owned(),
        topology.name().to_owned(),
    ];
    if let Some(left_out) = args.left_out(series) {
        words.extend(["--leave-out".to_owned(), left_out.to_owned()]);
    }
    if let Some(soak) = args.soak {
        words.extend(["--soak".to_owned(), soak.to_string()]);
    }
    words.extend(args.filter.clone());
    words
}

/// The words so that a shell takes them as they are.
fn quoted(words: &[String]) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_quoted_words_as_they_are() {
        let words = ["a b".to_owned(), "it's $HOME".to_owned()];
        assert_eq!(quoted(&words), r"'a b' 'it'\''s $HOME'");
    }
}
