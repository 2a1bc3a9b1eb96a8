// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask schedulers`: other people's schedulers next to the gate, in guests.

use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args as Arguments;
use serde_json::Value;

use crate::cache::Cache;
use crate::guest::{Guest, Image, Limits, Topology};
use crate::kernels::Kernel;
use crate::userland::Root;
use crate::{build, docs, kernels, setup, userland};

/// What the table stands between in the docs.
pub(crate) const MARKS: [&str; 2] = ["<!-- schedulers -->\n", "<!-- end of schedulers -->\n"];

/// With as many nodes as that makes a difference.
const TOPOLOGIES: [&str; 2] = ["numa", "one-node"];

/// Arguments of `cargo xtask schedulers`.
#[derive(Arguments)]
pub(crate) struct Args {
    /// Kernel series such as 6.18, or `newest`; may be repeated [default: 6.18 and newest]
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Put the table into docs/kernel-support.md
    #[arg(long)]
    write: bool,
}

/// What one guest found.
#[derive(Default)]
struct Found {
    rows: Vec<String>,
    /// A sentence about their changes.
    swaps: Option<String>,
    /// It did not get to its end, or not well.
    wrong: Option<String>,
}

/// Builds the schedulers, and lets the guests say what becomes of each of them, and of launches
/// under it. A guest that found something wrong is an error, after the table.
///
/// # Errors
/// When something cannot be built or booted, or a guest finds a wrong verdict or a scheduler that
/// was harmed.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::packages()?;
    build::programs(false)?;
    let cache = Cache::open()?;
    let programs = setup::schedulers(&cache)?;
    let (qemu, busybox) = (userland::qemu(&cache)?, userland::busybox(&cache)?);
    let series = match &args.kernels[..] {
        [] => vec!["6.18".to_owned(), kernels::NEWEST.to_owned()],
        some => some.to_vec(),
    };
    let mut chosen = Vec::new();
    for series in series {
        let kernel = kernels::get(&cache, &series)?;
        chosen.push((kernels::config(&cache, &kernel)?, kernel));
    }
    drop(cache);

    let mut found = Vec::new();
    for (config, kernel) in chosen {
        let mut image = Image::new(&busybox, "exec /bin/coregate-vm others");
        build::add_programs(&mut image)?;
        for program in &programs {
            let name = program.file_name().context("a program has a name")?;
            image.program(&format!("bin/{}", name.to_string_lossy()), program)?;
        }
        // For what they ask of the kernel's configuration.
        image.file(&format!("boot/config-{}", kernel.release), &config, 0o644);
        let image = &image;
        let guests = TOPOLOGIES.map(|topology| guest(&qemu, &kernel, topology));
        let guests = guests.into_iter().collect::<Result<Vec<_>>>()?;
        thread::scope(|scope| {
            let watch = |guest| scope.spawn(move || Found::watch(guest, image));
            let watched: Vec<_> = guests.iter().map(watch).collect();
            let join = |one: ScopedJoinHandle<_>| {
                one.join().map_err(|_| anyhow!("a guest's thread panicked"))
            };
            found.extend(watched.into_iter().map(join).collect::<Result<Vec<_>>>()?);
            anyhow::Ok(())
        })?;
    }
    let table = table(&found);
    println!("{table}");
    let wrong: Vec<_> = found.iter().filter_map(|one| one.wrong.clone()).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    if args.write {
        docs::put("docs/kernel-support.md", MARKS, &table)?;
    }
    Ok(())
}

fn guest(qemu: &Root, kernel: &Kernel, topology: &str) -> Result<Guest> {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    Ok(Guest {
        qemu: qemu.clone(),
        kernel: kernel.clone(),
        topology: topology.parse::<Topology>().map_err(anyhow::Error::msg)?,
        memory: 1024,
        icount: false,
        append: Vec::new(),
        limits: Limits {
            total: hours(3),
            silent: hours(1),
        },
        dir: build::target_dir().join(format!("guest/schedulers-{}-{topology}", kernel.series)),
    })
}

impl Found {
    fn watch(guest: &Guest, image: &Image) -> Self {
        let mut found = Self::default();
        let place = format!("{} {}", guest.kernel.series, guest.topology);
        let ended = guest.run(image, &mut |line| {
            eprintln!("{place}: {line}");
            found.note(guest, line);
        });
        found.wrong = match ended {
            Ok(0) if found.swaps.is_some() => None,
            Ok(code) => Some(format!("{place}: it ended with {code}")),
            Err(why) => Some(format!("{place}: {why:#}")),
        };
        found
    }

    /// Takes a line of `coregate-vm others`; others say nothing of schedulers.
    fn note(&mut self, guest: &Guest, line: &str) {
        let kernel = &guest.kernel.series;
        let Some((word, json)) = line.split_once(' ') else {
            return;
        };
        let Ok(json) = serde_json::from_str::<Value>(json) else {
            return;
        };
        match word {
            "row" => {
                let name = json["scheduler"].as_str().unwrap_or_default();
                let result = match json["fails"].as_str() {
                    Some(why) => format!("none | does not start: {} | |", why.replace('|', "\\|")),
                    None => {
                        let source = json["source"].as_str().unwrap_or_default();
                        let how = match json["stalled"].as_bool() {
                            Some(true) => ", then it let a task wait for too long",
                            _ => "",
                        };
                        format!("{source} | {}{how} | {} |", json["launches"], json["wrong"])
                    }
                };
                self.rows.push(format!(
                    "| {} | {kernel} | {} | {result}",
                    versioned(name),
                    guest.topology
                ));
            }
            "swaps" => {
                let (ended, harmed) = (&json["ended"], json["harmed"].as_array());
                self.swaps = Some(format!(
                    "On {kernel}, {}: {ended} changes under a storm of launches, {} schedulers \
                     ended otherwise than by us.",
                    guest.topology,
                    harmed.map_or(0, Vec::len)
                ));
            }
            _ => {}
        }
    }
}

/// The name as it is called, with the version of its crate.
fn versioned(words: &str) -> String {
    let (name, flags) = words.split_once(' ').unwrap_or((words, ""));
    let version = setup::SCHEDULERS
        .iter()
        .filter_map(|one| one.split_once('@'))
        .find(|(one, _)| *one == name)
        .map_or("", |(_, version)| version);
    format!("{name} {version} {flags}").trim_end().to_owned()
}

fn table(found: &[Found]) -> String {
    let mut lines = vec![
        "| scheduler | kernel | guest | source | launches | judged wrong |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(found.iter().flat_map(|one| one.rows.clone()));
    lines.push(String::new());
    lines.extend(found.iter().filter_map(|one| one.swaps.clone()));
    lines.join("\n")
}
