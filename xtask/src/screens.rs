// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask screens`: what `coregate status` and `coregate top` show of a real machine, as
//! pictures for the docs.

mod svg;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use vt100::Parser;

use crate::cache::Cache;
use crate::guest::{Guest, Image, Limits, Topology};
use crate::{build, kernels, setup, userland};

/// What the guest does and shows.
const SCENE: &str = concat!(include_str!("guest/prelude.sh"), include_str!("screens.sh"));

/// Builds all, lets the newest kernel play the scene, and writes the pictures into docs/screens.
///
/// # Errors
/// When something cannot be set up, the guest breaks, or the scene turns out otherwise.
pub(crate) fn run(no_build: bool) -> Result<()> {
    setup::packages()?;
    build::programs(no_build)?;
    let cache = Cache::open()?;
    let kernel = kernels::get(&cache, kernels::NEWEST)?;
    let qemu = userland::qemu(&cache)?;
    let mut image = Image::new(&userland::busybox(&cache)?, SCENE);
    build::add_programs(&mut image)?;
    drop(cache);
    let guest = Guest {
        qemu,
        kernel,
        topology: Topology::default(),
        memory: 1024,
        icount: false,
        // A machine with other work lets a guest wait for longer than a kernel believes.
        append: vec!["nosoftlockup".into()],
        limits: Limits {
            total: Duration::from_secs(600),
            silent: Duration::from_secs(200),
        },
        dir: build::target_dir().join("guest/screens"),
    };
    let mut lines = Vec::new();
    let code = guest.run(&image, &mut |line| lines.push(line.to_owned()))?;
    ensure!(
        code == 0,
        "the scene ended with {code}:\n{}",
        lines.join("\n")
    );
    let folder = build::repository().join("docs/screens");
    fs::create_dir_all(&folder)?;
    let mut lines = lines.iter().map(|line| line.trim_end());
    while let Some(line) = lines.next() {
        let Some(head) = line.strip_prefix("screen ") else {
            continue;
        };
        let words: Vec<_> = head.split(' ').collect();
        let [name, columns, rows] = words[..] else {
            bail!("no such screen: {head}");
        };
        let digits: String = lines.by_ref().take_while(|line| *line != "end").collect();
        let mut terminal = Parser::new(rows.parse()?, columns.parse()?, 0);
        terminal.process(&bytes(&digits)?);
        let title = format!("coregate {}", name.split('-').next().unwrap_or_default());
        let path = folder.join(format!("{name}.svg"));
        fs::write(&path, svg::draw(terminal.screen(), &title))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// What stands there in hexadecimal digits.
fn bytes(digits: &str) -> Result<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair)?, 16).context("not a digit");
    pairs.map(byte).collect()
}
