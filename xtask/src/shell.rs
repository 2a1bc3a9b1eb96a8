// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask guest`: one shell command in a guest.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::build;
use crate::cache::Cache;
use crate::guest::{Guest, Image, Limits, Topology};
use crate::{debian, kernels, setup, userland};

/// Arguments of `cargo xtask guest`.
#[derive(Args)]
pub(crate) struct Shell {
    /// Kernel series such as 6.18, or `newest`
    #[arg(long, value_name = "SERIES", default_value = kernels::NEWEST)]
    kernel: String,
    /// numa, one-node, smt-off, smt4, smt8, big, systemd, icount, or SOCKETSxCORESxTHREADSxNODES
    #[arg(long, default_value = "numa")]
    topology: Topology,
    /// Memory of the guest in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,
    /// Let the guest's clock count instructions, so that numbers repeat
    #[arg(long)]
    icount: bool,
    /// Put Debian's redis-server and redis-cli into the guest
    #[arg(long)]
    demo_root: bool,
    /// Put a file of this machine into the guest; a program gets its libraries
    #[arg(long = "file", value_name = "SRC:DST")]
    files: Vec<Placed>,
    /// Add parameters to the kernel command line
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Stop the guest after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time_limit: u64,
    /// Take the programs as they were built last
    #[arg(long)]
    no_build: bool,
    /// What a shell in the guest runs
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// A file and where it goes.
#[derive(Clone)]
struct Placed {
    source: PathBuf,
    place: String,
}

impl FromStr for Placed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((source, place)) if !source.is_empty() && place.starts_with('/') => Ok(Self {
                source: source.into(),
                place: place.to_owned(),
            }),
            _ => Err("write SRC:DST, DST beginning with /".to_owned()),
        }
    }
}

/// Boots the guest and returns the exit status of its command.
///
/// # Errors
/// When the guest cannot be set up or does not get to the end of the command.
pub(crate) fn run(args: &Shell) -> Result<i32> {
    setup::packages()?;
    build::programs(args.no_build)?;
    let cache = Cache::open()?;
    let kernel = kernels::get(&cache, &args.kernel)?;
    let qemu = userland::qemu(&cache)?;
    let image = image(&cache, args)?;
    drop(cache);
    let limit = Duration::from_secs(args.time_limit);
    let guest = Guest {
        qemu,
        kernel,
        topology: args.topology.clone(),
        memory: args.memory,
        icount: args.icount || args.topology.counts_instructions(),
        append: args.append.clone(),
        limits: Limits {
            total: limit,
            silent: limit,
        },
        dir: build::target_dir().join(format!("guest/shell-{}", std::process::id())),
    };
    let code = guest.run(&image, &mut |line| println!("{line}"))?;
    // The logs are of use only after a failure.
    let _ = fs::remove_dir_all(&guest.dir);
    Ok(code)
}

fn image(cache: &Cache, args: &Shell) -> Result<Image> {
    let (busybox, script) = (userland::busybox(cache)?, args.command.join(" "));
    let mut image = if args.topology.has_systemd() {
        let mut image = Image::systemd(&busybox, &debian::disk(cache)?, &script);
        image.folder("packaging", &build::repository().join("packaging"))?;
        image
    } else {
        Image::new(&busybox, &script)
    };
    if args.demo_root {
        userland::add_redis(cache, &mut image)?;
    }
    build::add_programs(&mut image)?;
    for file in &args.files {
        place(&mut image, file)
            .with_context(|| format!("cannot put {} into the guest", file.source.display()))?;
    }
    Ok(image)
}

fn place(image: &mut Image, file: &Placed) -> Result<()> {
    if is_program(&file.source)? {
        return image.program(&file.place, &file.source);
    }
    let mode = file.source.metadata()?.permissions().mode() & 0o7777;
    image.file(&file.place, &file.source, mode);
    Ok(())
}

fn is_program(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut head)?;
    Ok(head == b"\x7fELF")
}
