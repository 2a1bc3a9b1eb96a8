// SPDX-License-Identifier: GPL-2.0-only
//! Debian's own kernels: which there are, and their images in the cache.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::apt::Apt;
use crate::cache::{self, Cache};

/// The word that stands for the newest series there is.
pub(crate) const NEWEST: &str = "newest";

/// The series that every test run covers.
pub(crate) const SERIES: &[&str] = &["6.1", "6.12", "6.16", "6.18", "7.0", NEWEST];

/// The flavour that is used: small, and made for virtual machines.
const FLAVOUR: &str = "-cloud-amd64";

/// From 6.19 on the image is in a package of its own and `linux-image` is a
/// shell around it, so the first of these that has a release is the right one.
const PREFIXES: &[&str] = &["linux-binary-", "linux-image-"];

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// Such as `6.18`.
    pub(crate) series: String,
    /// Such as `6.18.15+deb13-cloud-amd64`.
    pub(crate) release: String,
    /// The image in the cache.
    pub(crate) image: PathBuf,
}

/// A kernel that Debian has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Offer {
    package: String,
    release: String,
    version: Vec<u32>,
}

impl Offer {
    /// Reads `package`, or says that it holds no kernel image of our flavour.
    fn parse(package: &str) -> Option<Self> {
        let name = PREFIXES
            .iter()
            .find_map(|head| package.strip_prefix(head))?;
        let version = name.strip_suffix(FLAVOUR)?;
        if !version.starts_with(|first: char| first.is_ascii_digit()) || version.contains("rc") {
            return None;
        }
        let version = version
            .split(|c: char| !c.is_ascii_digit())
            .filter(|digits| !digits.is_empty())
            .map(|digits| digits.parse().ok())
            .collect::<Option<Vec<u32>>>()?;
        (version.len() >= 2).then(|| Self {
            package: package.to_owned(),
            release: name.to_owned(),
            version,
        })
    }

    /// Such as `6.18`.
    pub(crate) fn series(&self) -> String {
        format!("{}.{}", self.version[0], self.version[1])
    }

    /// Such as `6.18.15+deb13-cloud-amd64`.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }
}

/// The newest kernel of each series that Debian has, oldest series first.
///
/// # Errors
/// When the package indexes cannot be had.
pub(crate) fn offers(cache: &Cache) -> Result<Vec<Offer>> {
    let apt = Apt::open(cache)?;
    let list = cache.dir("kernels")?.join("offers");
    if !apt.is_older_than(&list)? {
        let mut names = Vec::new();
        for prefix in PREFIXES {
            names.extend(apt.names(prefix)?);
        }
        names.retain(|name| Offer::parse(name).is_some());
        cache::write(&list, &names.join("\n"))?;
    }
    let names =
        fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    Ok(newest_of_each(names.lines().filter_map(Offer::parse)))
}

/// The newest kernel of `series`, fetched if it is not in the cache yet.
///
/// # Errors
/// When Debian has no such series, or it cannot be fetched.
pub(crate) fn get(cache: &Cache, series: &str) -> Result<Kernel> {
    let offers = offers(cache)?;
    let offer = offers
        .iter()
        .rfind(|offer| series == NEWEST || offer.series() == series)
        .ok_or_else(|| {
            let known: Vec<_> = offers.iter().map(Offer::series).collect();
            anyhow!(
                "Debian has no kernel of series {series}: choose one of {}, or {NEWEST}",
                known.join(", ")
            )
        })?;
    let dir = cache.dir("kernels")?;
    let image = dir.join(&offer.release);
    if !image.exists() {
        eprintln!("fetching kernel {}", offer.release);
        fetch(cache, offer, &image)?;
        drop_older(&dir, offer)?;
    }
    Ok(Kernel {
        series: offer.series(),
        release: offer.release.clone(),
        image,
    })
}

/// What the kernel was configured with, in the cache.
///
/// # Errors
/// When it cannot be fetched.
pub(crate) fn config(cache: &Cache, kernel: &Kernel) -> Result<PathBuf> {
    let release = &kernel.release;
    let config = cache.dir("configs")?.join(release);
    if !config.exists() {
        let apt = Apt::open(cache)?;
        // Where a kernel is more than one package it is in the one that all need.
        let base = format!("linux-base-{release}");
        let package = match apt.names(&base)?.contains(&base) {
            true => base,
            false => format!("linux-image-{release}"),
        };
        let unpacked = cache.dir("configs")?.join("unpacked");
        let _ = fs::remove_dir_all(&unpacked);
        apt.unpack(&package, &cache::make_dir(&unpacked)?)?;
        // From 7.0 on it stands with the modules.
        [
            format!("boot/config-{release}"),
            format!("usr/lib/modules/{release}/config"),
        ]
        .iter()
        .map(|name| unpacked.join(name))
        .find(|name| name.exists())
        .ok_or_else(|| anyhow!("the package {package} holds no configuration"))
        .and_then(|name| Ok(fs::rename(name, &config)?))?;
        let _ = fs::remove_dir_all(&unpacked);
    }
    Ok(config)
}

fn newest_of_each(offers: impl Iterator<Item = Offer>) -> Vec<Offer> {
    let mut all: Vec<_> = offers.collect();
    // Of two packages of one release the sort keeps linux-binary last.
    all.sort_by(|a, b| (&a.version, &b.package).cmp(&(&b.version, &a.package)));
    let mut newest: Vec<Offer> = Vec::new();
    for offer in all {
        if newest
            .last()
            .is_some_and(|last| last.series() == offer.series())
        {
            newest.pop();
        }
        newest.push(offer);
    }
    newest
}

fn fetch(cache: &Cache, offer: &Offer, image: &Path) -> Result<()> {
    let unpacked = cache.dir("kernels")?.join("unpacked");
    let _ = fs::remove_dir_all(&unpacked);
    Apt::open(cache)?.unpack(&offer.package, &cache::make_dir(&unpacked)?)?;
    let places = [
        unpacked.join(format!("usr/lib/modules/{}/vmlinuz", offer.release)),
        unpacked.join(format!("boot/vmlinuz-{}", offer.release)),
    ];
    let Some(found) = places.iter().find(|place| place.exists()) else {
        bail!("the package {} holds no kernel image", offer.package);
    };
    fs::rename(found, image).with_context(|| format!("cannot write {}", image.display()))?;
    fs::remove_dir_all(&unpacked).with_context(|| format!("cannot remove {}", unpacked.display()))
}

/// Removes the images of the same series that `kept` replaces.
fn drop_older(dir: &Path, kept: &Offer) -> Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let older = Offer::parse(&format!("linux-image-{name}"))
            .is_some_and(|old| old.series() == kept.series() && old.release != kept.release);
        if older {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(names: &[&str]) -> Vec<String> {
        newest_of_each(names.iter().filter_map(|name| Offer::parse(name)))
            .into_iter()
            .map(|offer| offer.package)
            .collect()
    }

    #[test]
    fn only_images_of_the_flavour_count() {
        for name in [
            "linux-image-cloud-amd64",
            "linux-image-6.1.0-50-amd64",
            "linux-image-6.1.0-50-cloud-amd64-dbg",
            "linux-image-6.1.0-50-cloud-amd64-unsigned",
            "linux-binary-unsigned-7.2.13+deb14-cloud-amd64",
            "linux-image-7.4-rc2-cloud-amd64",
        ] {
            assert_eq!(Offer::parse(name), None, "{name}");
        }
    }

    #[test]
    fn newest_goes_by_number_not_by_text() {
        let names = [
            "linux-image-6.12.95+deb12-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-47-cloud-amd64",
        ];
        assert_eq!(
            newest(&names),
            [
                "linux-image-6.1.0-50-cloud-amd64",
                "linux-image-6.12.107+deb13-cloud-amd64"
            ]
        );
    }

    #[test]
    fn a_package_of_its_own_goes_before_the_shell() {
        let names = [
            "linux-binary-7.0.13+deb13-cloud-amd64",
            "linux-image-7.0.13+deb13-cloud-amd64",
            "linux-binary-7.0.9+deb13-cloud-amd64",
        ];
        assert_eq!(newest(&names), ["linux-binary-7.0.13+deb13-cloud-amd64"]);
    }
}
