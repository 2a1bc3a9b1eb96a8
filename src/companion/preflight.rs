// SPDX-License-Identifier: GPL-2.0-only
//! What must hold before the companion can be loaded, and the remedy if it
//! does not.

use std::fs;
use std::io;
use std::path::Path;

use libbpf_rs::btf::types::{Enum, Enum64, Struct};
use libbpf_rs::btf::{Btf, BtfType};

use super::Error;
use super::skel::KFUNCS;
use crate::kernel::{Lack, Privileges, SchedExt, refused};

/// The kernel's own types.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The flags of `struct sched_ext_ops` that the companion sets.
///
/// The last two make the kernel ask the scheduler about tasks that it would
/// else run on the spot: nothing may run unasked on a core that is held.
const OPS_FLAGS: [&str; 4] = [
    "SCX_OPS_BUILTIN_IDLE_PER_NODE",
    "SCX_OPS_ENQ_LAST",
    "SCX_OPS_ENQ_EXITING",
    "SCX_OPS_ENQ_MIGRATION_DISABLED",
];

/// Checks that this kernel can run the companion, that this process may load
/// it, and that no other scheduler is in the way.
pub(super) fn check() -> Result<(), Error> {
    if !Path::new("/sys/kernel").exists() {
        return Err(Error::NoSysfs);
    }
    let root = Path::new("/");
    let sched_ext = SchedExt::read(root).ok_or_else(no_sched_ext)?;
    if !Path::new(BTF).exists() {
        return Err(no_btf().into());
    }
    if !Privileges::of_this_process(root).suffice() {
        return Err(Error::NotPermitted);
    }
    if sched_ext.state == "disabled" {
        return Ok(());
    }
    Err(Error::Loaded {
        ops: sched_ext.ops.unwrap_or_else(|| "unnamed".into()),
    })
}

/// Whether this kernel can run the companion, whatever this process may do.
pub(super) fn suits() -> Result<(), Lack> {
    SchedExt::read(Path::new("/")).ok_or_else(no_sched_ext)?;
    let types = kernel_types()?;
    ops_flags(&types)?;
    kfuncs(&types)
}

fn no_sched_ext() -> Lack {
    Lack {
        what: "this kernel has no sched_ext (/sys/kernel/sched_ext is missing), so it takes no \
               scheduler"
            .into(),
        remedy: "boot a kernel with CONFIG_SCHED_CLASS_EXT=y, 6.16 or later",
    }
}

fn no_btf() -> Lack {
    Lack {
        what: "this kernel does not describe its types (/sys/kernel/btf/vmlinux is missing), so \
               the scheduler cannot be fitted to it"
            .into(),
        remedy: "boot a kernel with CONFIG_DEBUG_INFO_BTF=y",
    }
}

/// Checks that the kernel takes calls of all the functions that the companion needs. Some builds
/// do not: bpf/compat.h.
pub(super) fn kfuncs(btf: &Btf<'_>) -> Result<(), Lack> {
    let refused = refused(btf, KFUNCS);
    if refused.is_empty() {
        return Ok(());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Err(Lack {
        what: format!(
            "kernel {} refuses calls of {}, which the companion needs",
            release.trim(),
            refused.join(", ")
        ),
        remedy: "boot another kernel, 6.16 or later (docs/kernel-support.md lists builds)",
    })
}

/// How many times CPUs have come or gone; the kernel compares it with its own
/// when a scheduler is enabled.
pub(super) fn hotplug_seq() -> Result<u64, Error> {
    let path = "/sys/kernel/sched_ext/hotplug_seq";
    let failed = |cause| Error::Sysfs {
        path: path.to_owned(),
        cause,
    };
    let text = fs::read_to_string(path).map_err(failed)?;
    let text = text.trim_end();
    text.parse().map_err(|_| {
        let why = format!("{text:?} is no number");
        failed(io::Error::new(io::ErrorKind::InvalidData, why))
    })
}

/// The kernel's own types. There are many, so they are read once.
pub(super) fn kernel_types() -> Result<Btf<'static>, Lack> {
    Btf::from_vmlinux().map_err(|_| no_btf())
}

/// The running kernel's value of [`OPS_FLAGS`], since it may move them.
pub(super) fn ops_flags(btf: &Btf<'_>) -> Result<u64, Lack> {
    let known = enumerators(btf, "scx_ops_flags");
    OPS_FLAGS.iter().try_fold(0, |flags, &wanted| {
        let found = known.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| flags | value).ok_or_else(|| Lack {
            what: format!("this kernel's sched_ext lacks {wanted}, which the companion needs"),
            remedy: "boot a kernel 6.16 or later",
        })
    })
}

/// Whether the kernel asks schedulers about cgroups: `CONFIG_EXT_GROUP_SCHED`.
pub(super) fn has_cgroups(btf: &Btf<'_>) -> bool {
    let ops = btf.type_by_name::<Struct<'_>>("sched_ext_ops");
    ops.is_some_and(|ops| {
        ops.iter()
            .any(|member| member.name.is_some_and(|name| name == "cgroup_init"))
    })
}

/// Name and value of each enumerator of an enum of the kernel.
fn enumerators(btf: &Btf<'_>, name: &str) -> Vec<(String, u64)> {
    let Some(found) = btf
        .type_by_name::<BtfType<'_>>(name)
        .filter(BtfType::is_any_enum)
    else {
        return Vec::new();
    };
    if let Ok(wide) = Enum64::try_from(found) {
        return wide
            .iter()
            .filter_map(|member| {
                let value = u64::try_from(member.value).ok()?;
                Some((member.name?.to_string_lossy().into_owned(), value))
            })
            .collect();
    }
    let Ok(narrow) = Enum::try_from(found) else {
        return Vec::new();
    };
    narrow
        .iter()
        .filter_map(|member| {
            let value = u64::try_from(member.value).ok()?;
            Some((member.name?.to_string_lossy().into_owned(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests;
