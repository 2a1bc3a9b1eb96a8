// SPDX-License-Identifier: GPL-2.0-only
//! What must hold before the companion can be loaded, and the remedy if it
//! does not.

use std::fs;
use std::io;
use std::path::Path;

use libbpf_rs::btf::types::{Enum, Enum64, Struct};
use libbpf_rs::btf::{Btf, BtfType};

use super::Error;
use crate::kernel::{Privileges, SchedExt};

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
    let sched_ext = SchedExt::read(root).ok_or(Error::NoSchedExt)?;
    if !Path::new(BTF).exists() {
        return Err(Error::NoBtf);
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
pub(super) fn kernel_types() -> Result<Btf<'static>, Error> {
    Btf::from_vmlinux().map_err(|_| Error::NoBtf)
}

/// The running kernel's value of [`OPS_FLAGS`], since it may move them.
pub(super) fn ops_flags(btf: &Btf<'_>) -> Result<u64, Error> {
    let known = enumerators(btf, "scx_ops_flags");
    OPS_FLAGS.iter().try_fold(0, |flags, &wanted| {
        let found = known.iter().find(|(name, _)| name == wanted);
        found
            .map(|(_, value)| flags | value)
            .ok_or(Error::NoFlag { flag: wanted })
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
