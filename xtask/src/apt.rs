// SPDX-License-Identifier: GPL-2.0-only
//! Debian packages, fetched by apt itself but apart from the machine's own
//! apt: own sources, own state, own cache, and an empty package database.
//! Nothing is installed and nothing of the machine's configuration changes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};

use crate::cache::{self, Cache};
use crate::command;

/// Suites whose packages can be had; the machine's own is the default one.
const SUITES: &[&str] = &[
    "bookworm",
    "bookworm-backports",
    "trixie",
    "trixie-backports",
    "sid",
];

/// Where Debian keeps the keys of its archive.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// How old the package indexes may grow before they are fetched anew.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// An apt of our own.
pub(crate) struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Opens the apt folder of `cache` and fetches the indexes if they are
    /// missing or older than a day. Without network, older indexes serve on.
    ///
    /// # Errors
    /// When there are no indexes and none can be fetched.
    pub(crate) fn open(cache: &Cache) -> Result<Self> {
        let apt = Self {
            dir: cache.dir("apt")?,
        };
        apt.configure()?;
        if apt.is_fresh() {
            return Ok(apt);
        }
        match apt.update() {
            Ok(()) => {}
            Err(why) if apt.stamp().exists() => {
                eprintln!("warning: going on with the older package indexes: {why:#}");
            }
            Err(why) => return Err(why.context("cannot fetch Debian's package indexes")),
        }
        Ok(apt)
    }

    /// The Debian mirror that packages come from.
    ///
    /// # Errors
    /// When the machine's apt names none.
    pub(crate) fn mirror(&self) -> Result<String> {
        mirror(&codename()?)
    }

    /// The settings of the machine's apt that say how the network is reached, one a line as in
    /// apt.conf.
    ///
    /// # Errors
    /// When apt fails.
    pub(crate) fn network(&self) -> Result<Vec<String>> {
        let all = command::output(self.tool("apt-config").arg("dump"))?;
        let ours = |line: &&str| {
            let line = line.to_ascii_lowercase();
            line.starts_with("acquire::http") && !line.ends_with("\"\";")
        };
        Ok(all.lines().filter(ours).map(str::to_owned).collect())
    }

    /// Whether the indexes were fetched before `file` was written, so that
    /// what `file` took from them still holds.
    ///
    /// # Errors
    /// When it is not known when they were fetched.
    pub(crate) fn is_older_than(&self, file: &Path) -> Result<bool> {
        let refreshed = self.refreshed()?;
        let written = fs::metadata(file).and_then(|meta| meta.modified());
        Ok(written.is_ok_and(|time| time >= refreshed))
    }

    /// Names of all packages that begin with `prefix`.
    ///
    /// # Errors
    /// When apt fails.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let out = command::output(self.tool("apt-cache").args(["pkgnames", prefix]))?;
        Ok(out.lines().map(str::to_owned).collect())
    }

    /// File names of `packages` and all they depend on, in the machine's suite.
    ///
    /// # Errors
    /// When apt cannot satisfy them.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut command = self.tool("apt-get");
        command
            .args(["install", "--yes", "--print-uris"])
            .args(packages);
        let out = command::output(&mut command)?;
        // 'URI' FILE SIZE HASH
        Ok(out
            .lines()
            .filter(|line| line.starts_with('\''))
            .filter_map(|line| line.split_whitespace().nth(1))
            .map(str::to_owned)
            .collect())
    }

    /// Fetches `packages` and all they depend on and unpacks them into `root`.
    ///
    /// # Errors
    /// When one cannot be fetched or unpacked.
    pub(crate) fn unpack_closure(&self, packages: &[&str], root: &Path) -> Result<()> {
        let files = self.closure(packages)?;
        let mut command = self.tool("apt-get");
        command
            .args(["install", "--yes", "--download-only"])
            .args(packages);
        command::output(&mut command)?;
        let archives = self.dir.join("cache/archives");
        for file in files {
            let deb = archives.join(file);
            unpack(&deb, root)?;
            remove(&deb)?;
        }
        Ok(())
    }

    /// Fetches the one package `name` and unpacks it into `root`.
    ///
    /// # Errors
    /// When it cannot be fetched or unpacked.
    pub(crate) fn unpack(&self, name: &str, root: &Path) -> Result<()> {
        let downloads = self.dir.join("downloads");
        let _ = fs::remove_dir_all(&downloads);
        cache::make_dir(&downloads)?;
        let mut command = self.tool("apt-get");
        command::output(command.args(["download", name]).current_dir(&downloads))?;
        let deb = fs::read_dir(&downloads)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|end| end == "deb"))
            .ok_or_else(|| anyhow!("apt-get download {name} left no package"))?;
        unpack(&deb, root)?;
        remove(&deb)
    }

    fn stamp(&self) -> PathBuf {
        self.dir.join("refreshed")
    }

    fn refreshed(&self) -> Result<SystemTime> {
        let stamp = self.stamp();
        fs::metadata(&stamp)
            .and_then(|meta| meta.modified())
            .with_context(|| format!("cannot read {}", stamp.display()))
    }

    fn is_fresh(&self) -> bool {
        self.refreshed()
            .ok()
            .and_then(|time| time.elapsed().ok())
            .is_some_and(|age| age < MAX_AGE)
    }

    fn update(&self) -> Result<()> {
        eprintln!("fetching Debian's package indexes");
        command::output(self.tool("apt-get").args(["--quiet", "update"]))?;
        File::create(self.stamp()).context("cannot note when the indexes were fetched")?;
        Ok(())
    }

    /// An apt program that reads the machine's configuration (proxies stay in
    /// force) and then ours on top of it.
    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .arg("--config-file")
            .arg(self.dir.join("apt.conf"))
            .env("LC_ALL", "C")
            .env_remove("APT_CONFIG");
        command
    }

    fn configure(&self) -> Result<()> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            cache::make_dir(&self.dir.join(part))?;
        }
        cache::write(&self.dir.join("status"), "")?;
        let codename = codename()?;
        let newer_qemu = codename == "bookworm";
        cache::write(
            &self.dir.join("preferences"),
            if newer_qemu { PREFERENCES } else { "" },
        )?;
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing: install the package debian-archive-keyring");
        }
        let sources = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nArchitectures: amd64\n\
             Signed-By: {KEYRING}\n",
            mirror(&codename)?,
            SUITES.join(" "),
        );
        cache::write(&self.dir.join("debian.sources"), &sources)?;
        let conf = CONF
            .replace("@DIR@", &self.dir.display().to_string())
            .replace("@CODENAME@", &codename);
        cache::write(&self.dir.join("apt.conf"), &conf)
    }
}

/// QEMU 7.2, of bookworm, loses the guest's flags register around the int3 that
/// the kernel patches its static keys with, even in a single thread: guests
/// oops at boot and whenever schedulers change. 10.0 does not.
const PREFERENCES: &str = "\
Package: qemu-system-* seabios
Pin: release n=bookworm-backports
Pin-Priority: 995
";

/// The sandbox user could not read a cache below a private home; apt checks
/// signatures whoever downloads. Hooks that the machine runs after an update
/// concern the machine's own indexes, so they are left out.
const CONF: &str = r#"
Dir::Etc::SourceList "@DIR@/debian.sources";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Trusted "/dev/null";
Dir::Etc::TrustedParts "/dev/null";
Dir::Etc::Preferences "@DIR@/preferences";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "@DIR@/state";
Dir::State::lists "lists";
Dir::State::status "@DIR@/status";
Dir::Cache "@DIR@/cache";
Dir::Cache::archives "archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Log "@DIR@/log";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear Acquire::IndexTargets;
Acquire::IndexTargets::deb::Packages {
    MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
    ShortDescription "Packages";
};
Acquire::Languages "none";
Acquire::Retries "3";
APT::Default-Release "@CODENAME@";
APT::Install-Recommends "false";
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
"#;

/// The machine's Debian release, so that what is fetched fits what is built.
fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .filter(|name| SUITES.contains(&name.as_str()))
        .ok_or_else(|| {
            anyhow!(
                "this machine does not run one of Debian {}: run this on one of them",
                SUITES.join(", ")
            )
        })
}

/// The Debian mirror that the machine's own apt uses.
fn mirror(codename: &str) -> Result<String> {
    // Before the machine's first update its indexes tell neither code name nor
    // origin, so the suite as written in its sources is looked at then.
    let known = ["$(REPO_URI) $(COMPONENT) $(CODENAME) $(ORIGIN)"];
    let written = ["$(REPO_URI) $(COMPONENT) $(RELEASE)", "--no-release-info"];
    let wanted = [
        (&known[..], format!("main {codename} Debian")),
        (&written[..], format!("main {codename}")),
    ];
    for (args, wanted) in wanted {
        let mut command = Command::new("apt-get");
        command
            .args(["indextargets", "--format"])
            .args(args)
            .arg("Created-By: Packages");
        let out = command::output(&mut command)?;
        let found = out
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(_, rest)| *rest == wanted);
        if let Some((uri, _)) = found {
            return Ok(uri.to_owned());
        }
    }
    bail!(
        "the machine's apt sources name no Debian mirror for {codename} main: \
         add one, run apt-get update, and try again"
    )
}

fn unpack(deb: &Path, root: &Path) -> Result<()> {
    command::output(Command::new("dpkg-deb").arg("-x").arg(deb).arg(root))?;
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}
