// SPDX-License-Identifier: GPL-2.0-only
//! Builds this workspace.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;
use crate::guest::Image;

/// The programs that go into a guest.
const PROGRAMS: &[&str] = &["coregate", "coregate-vm"];

/// The top folder of the repository.
pub(crate) fn repository() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// Cargo, to be run at the top of the repository.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    command
}

/// The folder that cargo builds into.
pub(crate) fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => repository().join(dir),
        None => repository().join("target"),
    }
}

/// The release build of `program`.
pub(crate) fn program(program: &str) -> PathBuf {
    target_dir().join("release").join(program)
}

/// Puts the programs of this workspace into `image`.
///
/// # Errors
/// When one is not built, or a library of it cannot be found.
pub(crate) fn add_programs(image: &mut Image) -> Result<()> {
    PROGRAMS
        .iter()
        .try_for_each(|name| image.program(&format!("bin/{name}"), &program(name)))
}

/// Builds what goes into a guest, or with `skip` only looks whether it is there.
///
/// # Errors
/// When the build fails, or with `skip` when a program was never built.
pub(crate) fn programs(skip: bool) -> Result<()> {
    if !skip {
        let mut build = cargo();
        build.args(["build", "--release", "--quiet"]);
        for program in PROGRAMS {
            build.args(["--package", program]);
        }
        return command::run(&mut build);
    }
    for name in PROGRAMS {
        if !program(name).exists() {
            bail!("{name} is not built yet: run this once without --no-build");
        }
    }
    Ok(())
}
