// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask dist`: the packages for Debian's and for RPM's users, from one tree.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail, ensure};
use clap::Args as Arguments;
use serde_json::Value;

use crate::cache::{self, Cache};
use crate::{build, command, debian, setup};

/// Arguments of `cargo xtask dist`.
#[derive(Arguments)]
pub(crate) struct Args {
    /// Also look whether the packages are as they should be: lintian, rpmlint, the same files in both,
    /// the RPM installed, upgraded and erased, and the same bytes when they are built once more
    #[arg(long)]
    check: bool,
}

/// That of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is copied into the tree: from the repository, to where.
const FILES: &[(&str, &str)] = &[
    ("packaging/etc", "etc"),
    ("packaging/usr", "usr"),
    (
        "packaging/prometheus/coregate.rules.yml",
        "usr/share/coregate/prometheus/coregate.rules.yml",
    ),
    (
        "policy.schema.json",
        "usr/share/coregate/policy.schema.json",
    ),
    (
        "policy.toml.example",
        "usr/share/doc/coregate/policy.toml.example",
    ),
    ("README.md", "usr/share/doc/coregate/README.md"),
    ("docs", "usr/share/doc/coregate"),
    (
        "packaging/debian/copyright",
        "usr/share/doc/coregate/copyright",
    ),
    ("CHANGELOG.md", "usr/share/doc/coregate/changelog.gz"),
];

/// Where shells look for completions; the two of zsh are Debian's and everybody else's.
const COMPLETIONS: &[(&str, &str)] = &[
    (
        "coregate.bash",
        "usr/share/bash-completion/completions/coregate",
    ),
    ("_coregate", "usr/share/zsh/vendor-completions/_coregate"),
    ("_coregate", "usr/share/zsh/site-functions/_coregate"),
    (
        "coregate.fish",
        "usr/share/fish/vendor_completions.d/coregate.fish",
    ),
];

/// Builds the packages below `target/dist`.
///
/// # Errors
/// When something cannot be built, or a check finds something.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::packages()?;
    let tools = Tools::new()?;
    build::programs(false)?;
    lay_out(&build::program("coregate"))?;
    let packages = tools.pack(&dist())?;
    println!("{}\n{}", packages.deb.display(), packages.rpm.display());
    if args.check {
        check(&tools, &packages)?;
    }
    Ok(())
}

/// Debian's package, and the same as the next version, for a test of upgrades.
///
/// # Errors
/// When they cannot be built.
pub(crate) fn debs(cache: &Cache) -> Result<[PathBuf; 2]> {
    let cargo_deb = setup::cargo_deb(cache)?;
    lay_out(&build::program("coregate"))?;
    let next = format!("{VERSION}-2");
    let debs = [dist().join("coregate.deb"), dist().join("next.deb")];
    deb(&cargo_deb, &debs[0], &[])?;
    deb(&cargo_deb, &debs[1], &["--deb-version", &next])?;
    Ok(debs)
}

fn dist() -> PathBuf {
    // Where Cargo.toml looks for it, wherever cargo builds.
    build::repository().join("target/dist")
}

/// The folder `name` there, with nothing in it.
fn empty_dir(name: &str) -> Result<PathBuf> {
    let dir = dist().join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    cache::make_dir(&dir)
}

/// Lays out `target/dist/tree`, whose files are those of the packages.
fn lay_out(program: &Path) -> Result<()> {
    let tree = empty_dir("tree")?;
    put(program, &tree.join("usr/bin/coregate"), 0o755)?;
    for (from, to) in FILES {
        copy(&build::repository().join(from), &tree.join(to))?;
    }

    let pages = empty_dir("pages")?;
    let mut example = build::cargo();
    example.args(["run", "--quiet", "--release", "--example", "pages", "--"]);
    command::output(example.arg(&pages))?;
    for (from, to) in COMPLETIONS {
        put(&pages.join(from), &tree.join(to), 0o644)?;
    }
    for page in fs::read_dir(pages.join("man"))? {
        let page = page?.path();
        let section = page
            .extension()
            .context("a page has a section")?
            .to_string_lossy();
        let mut name = page
            .file_name()
            .context("a page has a name")?
            .to_os_string();
        name.push(".gz");
        let to = tree.join(format!("usr/share/man/man{section}")).join(name);
        put(&page, &to, 0o644)?;
    }
    let changelog = tree.join("usr/share/doc/coregate/changelog.Debian.gz");
    cache::write(&changelog, &debian_changelog()?)?;
    compress(&changelog)
}

/// Copies a file, or a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return put(from, to, 0o644);
    }
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Copies a file, compressed if its new name says so.
fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    cache::make_dir(to.parent().context("a file is in a folder")?)?;
    fs::copy(from, to)
        .and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    if to.extension().is_some_and(|end| end == "gz") {
        compress(to)?;
    }
    Ok(())
}

/// Compresses the file in its place, by the rules of Debian: as well as can be, and without a date.
fn compress(path: &Path) -> Result<()> {
    let plain = path.with_extension("plain");
    fs::rename(path, &plain)?;
    command::output(Command::new("gzip").args(["-9n"]).arg(&plain))?;
    fs::rename(plain.with_extension("plain.gz"), path)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What Debian's tools read the version and its date from.
fn debian_changelog() -> Result<String> {
    let date = command::output(Command::new("date").args([
        "--utc",
        "--rfc-email",
        &format!("--date=@{}", epoch()?),
    ]))?;
    let maintainer = maintainer()?;
    Ok(format!(
        "coregate ({VERSION}-1) unstable; urgency=medium\n\n  * What changed is in changelog.gz.\n\n \
         -- {maintainer}  {date}"
    ))
}

/// Who maintains the package, by its manifest.
fn maintainer() -> Result<String> {
    let mut cargo = build::cargo();
    cargo.args(["metadata", "--no-deps", "--format-version=1"]);
    let all: Value = serde_json::from_str(&command::output(&mut cargo)?)?;
    let packages = all["packages"].as_array().into_iter().flatten();
    let mut maintainers = packages.filter_map(|one| one["metadata"]["deb"]["maintainer"].as_str());
    let maintainer = maintainers.next().context("no package has a maintainer")?;
    Ok(maintainer.to_owned())
}

/// The date of everything in the packages: that of the last commit, so that it is the same whenever
/// they are built; where git knows none, that of the changelog.
fn epoch() -> Result<String> {
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"])
        .current_dir(build::repository());
    if let Ok(date) = command::output(&mut git) {
        return Ok(date.trim().to_owned());
    }
    let changelog = fs::metadata(build::repository().join("CHANGELOG.md"))?;
    let date = changelog.modified()?.duration_since(UNIX_EPOCH)?;
    Ok(date.as_secs().to_string())
}

/// The packages that were built.
struct Packages {
    deb: PathBuf,
    rpm: PathBuf,
}

/// What builds them.
struct Tools {
    deb: PathBuf,
    rpm: PathBuf,
}

impl Tools {
    fn new() -> Result<Self> {
        let cache = Cache::open()?;
        Ok(Self {
            deb: setup::cargo_deb(&cache)?,
            rpm: setup::cargo_generate_rpm(&cache)?,
        })
    }

    /// Packs the tree.
    fn pack(&self, to: &Path) -> Result<Packages> {
        let packages = Packages {
            deb: to.join(format!("coregate_{VERSION}-1_amd64.deb")),
            rpm: to.join(format!("coregate-{VERSION}-1.x86_64.rpm")),
        };
        deb(&self.deb, &packages.deb, &[])?;
        self.rpm(&packages.rpm, &[])?;
        Ok(packages)
    }

    fn rpm(&self, to: &Path, more: &[&str]) -> Result<()> {
        let mut rpm = Command::new(&self.rpm);
        packed(rpm.arg("--output").arg(to).args(more))
    }
}

fn deb(cargo_deb: &Path, to: &Path, more: &[&str]) -> Result<()> {
    let mut deb = Command::new(cargo_deb);
    deb.args(["--no-build", "--no-strip", "--quiet", "--output"]);
    packed(deb.arg(to).args(more))
}

fn packed(tool: &mut Command) -> Result<()> {
    tool.env("SOURCE_DATE_EPOCH", epoch()?)
        .current_dir(build::repository());
    command::output(tool).map(drop)
}

fn check(tools: &Tools, packages: &Packages) -> Result<()> {
    setup::package_checkers()?;
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--allow-root"]);
    // It is not uploaded to Debian; and the gate stands before what multi-user.target starts.
    let suppressed = [
        "initial-upload-closes-no-bugs",
        "systemd-service-file-refers-to-unusual-wantedby-target",
    ];
    lintian.args(["--suppress-tags", &suppressed.join(",")]);
    command::output(lintian.arg(&packages.deb))?;
    let mut rpmlint = Command::new("rpmlint");
    rpmlint
        .arg("--config")
        .arg(build::repository().join("packaging/rpm/rpmlint.toml"));
    command::output(rpmlint.arg(&packages.rpm))?;
    let (deb, rpm) = (files_of_deb(&packages.deb)?, files_of_rpm(&packages.rpm)?);
    ensure!(
        deb == rpm,
        "the packages differ in {:?}",
        deb.symmetric_difference(&rpm).collect::<Vec<_>>()
    );
    install_rpm(tools, &packages.rpm)?;
    is_reproducible(tools, packages)
}

/// The paths of all files, without folders.
fn files_of_deb(deb: &Path) -> Result<BTreeSet<String>> {
    let list = command::output(Command::new("dpkg-deb").arg("--contents").arg(deb))?;
    let files = list.lines().filter(|line| !line.starts_with('d'));
    let path = |line: &str| {
        line.split_whitespace()
            .nth(5)
            .map(|path| path[1..].to_owned())
    };
    Ok(files.filter_map(path).collect())
}

fn files_of_rpm(rpm: &Path) -> Result<BTreeSet<String>> {
    let list = command::output(
        Command::new("rpm")
            .args(["--query", "--list", "--package"])
            .arg(rpm),
    )?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// Installs the RPM into a root, upgrades it to the next release, which has another policy, and erases
/// it.
fn install_rpm(tools: &Tools, rpm: &Path) -> Result<()> {
    let policy = dist().join("tree/etc/coregate/policy.toml");
    let text = fs::read_to_string(&policy)? + "# Of the next release.\n";
    cache::write(&policy, &text)?;
    let next = dist().join("next.rpm");
    tools.rpm(&next, &["--set-metadata", "release = \"2\""])?;
    let script = build::repository().join("xtask/src/dist/rpm.sh");
    let upload = |from: &Path, to| format!("upload {from:?} {to}");
    debian::in_root(&[
        upload(rpm, "/coregate.rpm"),
        upload(&next, "/next.rpm"),
        upload(&script, "/rpm.sh"),
        "sh \"$1\"/rpm.sh \"$1\"".into(),
    ])
}

/// Builds all of it once more, from nothing, in the same place, and compares.
fn is_reproducible(tools: &Tools, packages: &Packages) -> Result<()> {
    let release = build::target_dir().join("release");
    let (kept, again) = (dist().join("kept"), dist().join("again"));
    fs::rename(&release, &kept).with_context(|| format!("cannot move {}", release.display()))?;
    let other = build_again(tools, &again);
    let _ = fs::remove_dir_all(&release);
    fs::rename(&kept, &release).with_context(|| format!("cannot move {}", kept.display()))?;
    let other = other?;
    for (one, other) in [(&packages.deb, &other.deb), (&packages.rpm, &other.rpm)] {
        if fs::read(one)? != fs::read(other)? {
            bail!("{} and {} differ", one.display(), other.display());
        }
    }
    fs::remove_dir_all(&again).with_context(|| format!("cannot remove {}", again.display()))
}

fn build_again(tools: &Tools, to: &Path) -> Result<Packages> {
    build::programs(false)?;
    lay_out(&build::program("coregate"))?;
    cache::make_dir(to)?;
    tools.pack(to)
}
