// SPDX-License-Identifier: GPL-2.0-only
//! Programs to launch, and launching them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What this program does instead of testing when it has this name.
const PROBE: &str = "coregate-probe";

/// The user that the tests launch programs as, when not as root.
pub(crate) const USER: u32 = 1000;

/// Runs as a probe, if this program was launched as one: it ends at once.
pub(crate) fn perform() -> Option<ExitCode> {
    (std::env::args().next().as_deref() == Some(PROBE)).then_some(ExitCode::SUCCESS)
}

/// A program at `path` that ends at once, with success.
pub(crate) fn program(path: &str) -> Result<()> {
    if let Some(folder) = Path::new(path).parent() {
        fs::create_dir_all(folder)?;
    }
    // A program that still runs cannot be written over.
    let _ = fs::remove_file(path);
    fs::copy("/bin/coregate-vm", path).with_context(|| format!("cannot make {path}"))?;
    Ok(())
}

/// A script at `path` that ends at once, with success.
pub(crate) fn script(path: &str) -> Result<()> {
    fs::write(path, "#!/bin/sh\nexit 0\n")?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// The way to launch a program that was made here.
pub(crate) fn command(path: &str) -> Command {
    let mut command = Command::new(path);
    command.arg0(PROBE).stdin(Stdio::null());
    command
}

/// Launches a program: `None` if it started, else the errno of its exec. Also its pid.
pub(crate) fn launch(command: &mut Command) -> Result<Option<i32>> {
    match command.status() {
        Ok(status) => {
            ensure!(
                status.success(),
                "{command:?} started, but failed: {status}"
            );
            Ok(None)
        }
        Err(error) => errno(&error).map(Some),
    }
}

/// Launches a program and expects that it starts.
pub(crate) fn starts(path: &str) -> Result<()> {
    match launch(&mut command(path))? {
        None => Ok(()),
        Some(errno) => bail!(
            "{path} did not start: {}",
            io::Error::from_raw_os_error(errno)
        ),
    }
}

/// Launches a program and expects that its exec fails with `expected`.
pub(crate) fn fails(path: &str, expected: i32) -> Result<()> {
    let found = launch(&mut command(path))?;
    ensure!(
        found == Some(expected),
        "{path}: expected errno {expected}, found {found:?} (None: it started)"
    );
    Ok(())
}

fn errno(error: &io::Error) -> Result<i32> {
    error
        .raw_os_error()
        .with_context(|| format!("not an errno: {error}"))
}
