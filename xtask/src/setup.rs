// SPDX-License-Identifier: GPL-2.0-only
//! Finds out what a machine lacks and installs it where it may.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use crate::cache::Cache;
use crate::{build, command};

/// Debian packages that the build, the checks and the guests need.
const PACKAGES: &[&str] = &[
    // the programs, and the libbpf that is built along with them
    "autoconf",
    "automake",
    "autopoint",
    "bison",
    "clang",
    "flex",
    "gawk",
    "gcc",
    "libc6-dev",
    "libtool",
    "linux-libc-dev",
    "make",
    "pkg-config",
    // the checks
    "clang-format",
    "spin",
    // the packages that are only unpacked
    "debian-archive-keyring",
    // the root of the guest with systemd
    "e2fsprogs",
    "genext2fs",
    "mmdebstrap",
    "uidmap",
];

/// Debian packages that other people's schedulers are built with.
const FOR_SCHEDULERS: &[&str] = &[
    "clang-19",
    "libelf-dev",
    "libseccomp-dev",
    "protobuf-compiler",
    "zlib1g-dev",
];

/// The one version whose answers the checks rest on.
const CARGO_DENY: &str = "cargo-deny@0.20.2";

/// Debian packages that look at packages.
const FOR_PACKAGES: &[&str] = &["lintian", "rpm", "rpmlint"];

const CARGO_DEB: &str = "cargo-deb@3.8.0";
const CARGO_GENERATE_RPM: &str = "cargo-generate-rpm@0.21.1";

/// Schedulers that other people make, from their crates.
pub(crate) const SCHEDULERS: &[&str] = &[
    "scx_bpfland@1.1.4",
    "scx_cosmos@1.1.7",
    "scx_lavd@1.1.4",
    "scx_rusty@1.1.4",
];

/// Installs the packages that are missing.
///
/// # Errors
/// When this user may not install, with the command to run, or when the
/// installation fails.
pub(crate) fn packages() -> Result<()> {
    install(PACKAGES)
}

fn install(packages: &'static [&str]) -> Result<()> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!(
        "apt-get update && apt-get install --yes --no-install-recommends {}",
        missing.join(" ")
    );
    let Some(shell) = root_shell() else {
        bail!("packages are missing; run this once:\n    sudo sh -c '{install}'");
    };
    eprintln!("installing {}", missing.join(", "));
    let mut words = shell.iter();
    let mut command = Command::new(words.next().copied().unwrap_or("sh"));
    command
        .args(words)
        .arg(&install)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command::output(&mut command)
        .map(drop)
        .context("cannot install what is missing")
}

/// Checks that rustfmt and clippy are there, which come with the toolchain.
///
/// # Errors
/// When one is missing, with the command that adds it.
pub(crate) fn components() -> Result<()> {
    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if command::output(build::cargo().args([tool, "--version"])).is_err() {
            bail!("{component} is missing; run this once:\n    rustup component add {component}");
        }
    }
    Ok(())
}

/// The path of cargo-deny, built into the cache if it is not there yet.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn cargo_deny(cache: &Cache) -> Result<PathBuf> {
    tool(cache, CARGO_DENY, None)
}

/// The path of cargo-deb, built into the cache if it is not there yet.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn cargo_deb(cache: &Cache) -> Result<PathBuf> {
    tool(cache, CARGO_DEB, None)
}

/// The path of cargo-generate-rpm, built into the cache if it is not there yet.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn cargo_generate_rpm(cache: &Cache) -> Result<PathBuf> {
    tool(cache, CARGO_GENERATE_RPM, None)
}

/// The programs of [`SCHEDULERS`], in that order, built into the cache if they are not there yet.
///
/// # Errors
/// When one cannot be built, or what it is built with cannot be installed.
pub(crate) fn schedulers(cache: &Cache) -> Result<Vec<PathBuf>> {
    install(FOR_SCHEDULERS)?;
    // Most of what they are made of is the same.
    let target = cache.dir("tools/schedulers")?;
    let build = |wanted: &&str| tool(cache, wanted, Some(&target));
    let programs = SCHEDULERS.iter().map(build).collect();
    let _ = fs::remove_dir_all(target);
    programs
}

/// Installs what looks at packages.
///
/// # Errors
/// When it cannot be installed.
pub(crate) fn package_checkers() -> Result<()> {
    install(FOR_PACKAGES)
}

/// The program of the crate `NAME@VERSION`. With `target` it is a scheduler, built in that folder along
/// with others.
fn tool(cache: &Cache, wanted: &str, target: Option<&Path>) -> Result<PathBuf> {
    let (name, _) = wanted.split_once('@').context("a tool has a version")?;
    let dir = cache.dir(&format!("tools/{wanted}"))?;
    let program = dir.join("bin").join(name);
    if !program.exists() {
        eprintln!("building {wanted}, once");
        let mut install = build::cargo();
        install
            .args(["install", "--quiet", "--locked", wanted, "--root"])
            .arg(&dir)
            // What is set for this workspace is not meant for a tool.
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS")
            .current_dir(&dir);
        if let Some(target) = target {
            install.env("CARGO_TARGET_DIR", target);
            install.env("BPF_CLANG", "clang-19");
        }
        command::run(&mut install)?;
    }
    Ok(program)
}

fn missing(packages: &'static [&str]) -> Result<Vec<&'static str>> {
    // dpkg-query exits with 1 when it does not know a package at all, so what
    // it prints counts, not its status.
    let out = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\\n"])
        .args(packages)
        .output()
        .context("cannot start dpkg-query: this needs Debian 12 or 13")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let installed = |package: &str| {
        text.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(package) && words.last() == Some("installed")
        })
    };
    Ok(packages
        .iter()
        .copied()
        .filter(|package| !installed(package))
        .collect())
}

/// A shell with root's rights that asks nobody, if there is one.
fn root_shell() -> Option<&'static [&'static str]> {
    if Uid::effective().is_root() {
        return Some(&["sh", "-c"]);
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).output().ok()?;
    sudo.status
        .success()
        .then_some(&["sudo", "-n", "sh", "-c"] as &[_])
}
