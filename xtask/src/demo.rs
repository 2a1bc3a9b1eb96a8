// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask demo`: a real server, admitted while a core is free and refused
//! while none is.

use std::time::Duration;

use anyhow::Result;

use crate::cache::Cache;
use crate::guest::{Guest, Image, Limits, Topology};
use crate::{build, kernels, setup, userland};

/// What the guest does and tells.
const STORY: &str = concat!(include_str!("guest/prelude.sh"), include_str!("demo.sh"));

/// Builds all, boots the newest kernel and lets it tell its story. Returns the
/// exit status of the story: 0 when each step turned out as it said.
///
/// # Errors
/// When something cannot be set up, or the guest breaks.
pub(crate) fn run() -> Result<i32> {
    setup::packages()?;
    println!("Building coregate ...");
    build::programs(false)?;
    let cache = Cache::open()?;
    let kernel = kernels::get(&cache, kernels::NEWEST)?;
    let qemu = userland::qemu(&cache)?;
    let mut image = Image::new(&userland::busybox(&cache)?, STORY);
    userland::add_redis(&cache, &mut image)?;
    build::add_programs(&mut image)?;
    drop(cache);
    println!(
        "Booting Debian's kernel {} in a virtual machine ...",
        kernel.series
    );
    let guest = Guest {
        qemu,
        kernel,
        topology: Topology::default(),
        memory: 1024,
        icount: false,
        append: Vec::new(),
        limits: Limits {
            total: Duration::from_secs(600),
            silent: Duration::from_secs(120),
        },
        dir: build::target_dir().join("guest/demo"),
    };
    guest.run(&image, &mut |line| println!("{line}"))
}
