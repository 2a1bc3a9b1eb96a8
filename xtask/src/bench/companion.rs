// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask bench --only companion`: what runs beside programs that hold cores, under the
//! companion and under others.

use anyhow::{Result, ensure};

use super::{Args, Machine, write};
use crate::guest::{Guest, Image};

pub(super) const MACHINE: Machine = Machine {
    topology: "icount",
    word: "companion",
    ..super::SMALL
};

pub(crate) const MARKS: [&str; 2] = [
    "<!-- bench companion -->\n",
    "<!-- end of bench companion -->\n",
];

/// Measures in the guest, and prints the table that it makes, or puts it into the docs.
///
/// # Errors
/// When the guest does not get to the end of its measurements.
pub(super) fn show(args: &Args, guest: &Guest, image: &Image) -> Result<bool> {
    let series = &guest.kernel.series;
    let mut table = format!("On {series}, {}:\n\n", MACHINE.title);
    let code = guest.run(image, &mut |line| match line.strip_prefix("table ") {
        Some(line) => table += &format!("{}\n", line.trim_end()),
        None => eprintln!("{line}"),
    })?;
    ensure!(code == 0, "the bench failed with {code} in the guest");
    print!("{table}");
    if args.write {
        write(MARKS, &table)?;
    }
    Ok(true)
}
