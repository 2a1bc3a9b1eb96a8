// SPDX-License-Identifier: GPL-2.0-only
//! Facts only; what follows from them is next door.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use caps::{CapSet, Capability};
use libbpf_rs::btf::types::Func;
use nix::unistd::Uid;

use super::takes;
use crate::libbpf_log::Listening;

/// A fact, or why it could not be known.
pub type Fact<T> = Result<T, String>;

/// What decides whether and how the gate can work here; [`Symbols`] apart, which are read
/// alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`, from `/proc/sys/kernel/osrelease`.
    pub release: Fact<String>,
    /// What this process may do.
    pub privileges: Privileges,
    /// The active security modules in their order, from
    /// `/sys/kernel/security/lsm`.
    pub lsms: Fact<Vec<String>>,
    /// The `lsm=` of the running kernel's command line, from `/proc/cmdline`.
    pub lsm_parameter: Option<String>,
    /// From `/sys/kernel/security/lockdown`.
    pub lockdown: Fact<Lockdown>,
    /// What the kernel's type information names, from
    /// `/sys/kernel/btf/vmlinux`.
    pub btf: Fact<Btf>,
    /// Whether BPF programs are compiled to machine code, from
    /// `/proc/sys/net/core/bpf_jit_enable`.
    pub jit: Fact<bool>,
    /// Whether a BPF file system is mounted at `/sys/fs/bpf`, from
    /// `/proc/self/mounts`.
    pub bpffs: Fact<bool>,
    /// From `/sys/kernel/sched_ext`; `None` if the kernel has no sched_ext.
    pub sched_ext: Option<SchedExt>,
    /// From `/proc/sys/kernel/kptr_restrict`; at 2 nobody sees addresses.
    pub kptr_restrict: Fact<u32>,
}

/// What this process may do, as far as the gate asks.
///
/// Loading a BPF LSM or struct_ops program takes CAP_BPF and CAP_PERFMON
/// (`bpf_prog_load()` and `is_perfmon_prog_type()` in kernel/bpf/syscall.c),
/// attaching one takes nothing more, and CAP_SYS_ADMIN stands for both
/// (include/linux/capability.h). Beyond that CAP_SYS_ADMIN is needed only to
/// mount a BPF file system and to look at foreign BPF objects by id.
/// CAP_NET_ADMIN is not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// The effective user id.
    pub euid: u32,
    /// Whether the capabilities below count: they do only in the initial user
    /// namespace, so not for "root" in most containers (`/proc/self/uid_map`).
    pub initial_user_namespace: bool,
    /// CAP_BPF is effective.
    pub bpf: bool,
    /// CAP_PERFMON is effective.
    pub perfmon: bool,
    /// CAP_SYS_ADMIN is effective.
    pub sys_admin: bool,
    /// CAP_SYSLOG is effective; it shows kernel addresses
    /// (`kallsyms_show_value()` in kernel/ksyms_common.c).
    pub syslog: bool,
}

/// How far root is kept from the kernel, `kernel_lockdown(7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Not at all.
    None,
    /// Root cannot change the running kernel. The gate does not either.
    Integrity,
    /// Root cannot read kernel memory: `bpf_probe_read_kernel()` is refused
    /// (`LOCKDOWN_BPF_READ_KERNEL` in kernel/bpf/helpers.c).
    Confidentiality,
}

/// What the kernel's own type information names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Btf {
    /// The LSM hooks of the gate: the kernel was built with CONFIG_BPF_LSM.
    pub lsm_hooks: bool,
    /// `scx_bpf_get_idle_smtmask()`, the idle mask of the whole machine, can be called.
    pub flat_mask: bool,
    /// `scx_bpf_get_idle_smtmask_node()`, the idle mask of one node, can be called.
    pub node_mask: bool,
}

/// The state of sched_ext.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SchedExt {
    /// `disabled`, `enabled`, or on the way from one to the other.
    pub state: String,
    /// The name of the loaded scheduler; one that comes or leaves may have none.
    pub ops: Option<String>,
    /// How many schedulers were enabled since boot.
    pub enable_seq: Option<u64>,
    /// Whether the scheduler has all ordinary tasks, not only those that asked
    /// for it.
    pub switch_all: Option<bool>,
}

/// What `/proc/kallsyms` shows to this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Those of [`Symbols::NEEDED`] that are not there.
    pub missing: Vec<&'static str>,
    /// Whether those that are there have no address for this process.
    pub hidden: bool,
    /// Whether variables are listed at all: CONFIG_KALLSYMS_ALL.
    pub variables: bool,
}

impl Symbols {
    /// The variables without which an idle mask must not be asked for: asking
    /// for the wrong one ejects the loaded scheduler, and only these tell
    /// which is right, and an answer from none.
    pub const NEEDED: [&str; 5] = [
        "scx_root",
        "scx_builtin_idle_enabled",
        "scx_builtin_idle_per_node",
        "scx_enable_seq",
        "cpu_bit_bitmap",
    ];

    /// Reads the `/proc/kallsyms` below `root`. It is long, so only `doctor` does.
    pub fn read(root: &Path) -> Fact<Self> {
        let path = "proc/kallsyms";
        let failed = |error| unreadable(path, &error);
        let file = fs::File::open(root.join(path)).map_err(failed)?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut found = Vec::new();
        let mut symbols = Self::default();
        let mut line = String::new();
        while reader.read_line(&mut line).map_err(failed)? > 0 {
            let mut fields = line.split_ascii_whitespace();
            let (address, kind, name) = (fields.next(), fields.next(), fields.next());
            symbols.variables |= matches!(kind, Some("b" | "B" | "d" | "D"));
            if let Some(needed) = Self::NEEDED.into_iter().find(|needed| name == Some(needed)) {
                symbols.hidden |=
                    address.is_none_or(|digits| digits.bytes().all(|byte| byte == b'0'));
                found.push(needed);
            }
            line.clear();
        }
        symbols.missing = Self::NEEDED
            .into_iter()
            .filter(|name| !found.contains(name))
            .collect();
        Ok(symbols)
    }

    /// Whether the gate can read all of [`Symbols::NEEDED`].
    pub fn usable(&self) -> bool {
        self.missing.is_empty() && !self.hidden
    }
}

impl Facts {
    /// Gathers the facts from the `/proc` and `/sys` below `root`, which is
    /// `/` but for tests, and from this process.
    pub fn gather(root: &Path) -> Self {
        Self {
            release: text(root, "proc/sys/kernel/osrelease"),
            privileges: Privileges::of_this_process(root),
            lsms: text(root, "sys/kernel/security/lsm")
                .map(|list| list.split(',').map(String::from).collect()),
            lsm_parameter: lsm_parameter(root),
            lockdown: lockdown(root),
            btf: btf(root),
            jit: number(root, "proc/sys/net/core/bpf_jit_enable").map(|mode| mode != 0),
            bpffs: bpffs(root),
            sched_ext: SchedExt::read(root),
            kptr_restrict: number(root, "proc/sys/kernel/kptr_restrict")
                .and_then(|level| u32::try_from(level).map_err(|error| error.to_string())),
        }
    }
}

impl Privileges {
    /// Those of this process; `root` is as for [`Facts::gather`].
    pub fn of_this_process(root: &Path) -> Self {
        let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
        let has = |capability| effective.contains(&capability);
        // The initial namespace maps every user to itself; others say less.
        let map = text(root, "proc/self/uid_map").unwrap_or_default();
        let initial = map.split_whitespace().eq(["0", "0", "4294967295"]);
        Self {
            euid: Uid::effective().as_raw(),
            initial_user_namespace: initial,
            bpf: has(Capability::CAP_BPF),
            perfmon: has(Capability::CAP_PERFMON),
            sys_admin: has(Capability::CAP_SYS_ADMIN),
            syslog: has(Capability::CAP_SYSLOG),
        }
    }

    /// Whether the capabilities are enough to load and attach BPF programs, where they count.
    pub fn suffice(&self) -> bool {
        self.sys_admin || (self.bpf && self.perfmon)
    }
}

impl SchedExt {
    /// Reads the `/sys/kernel/sched_ext` below `root` (kernel/sched/ext.c,
    /// `scx_attr_*_show()`); `None` if the kernel has no sched_ext.
    pub fn read(root: &Path) -> Option<Self> {
        let folder = "sys/kernel/sched_ext";
        let file = |name: &str| text(root, &format!("{folder}/{name}")).ok();
        Some(Self {
            state: file("state")?,
            ops: file("root/ops").filter(|name| !name.is_empty()),
            enable_seq: file("enable_seq").and_then(|text| text.parse().ok()),
            switch_all: file("switch_all").map(|text| text != "0"),
        })
    }
}

/// The last `lsm=` of the command line; the kernel too takes the last.
fn lsm_parameter(root: &Path) -> Option<String> {
    let line = text(root, "proc/cmdline").ok()?;
    line.split_whitespace()
        .filter_map(|word| word.strip_prefix("lsm="))
        .next_back()
        .map(Into::into)
}

fn lockdown(root: &Path) -> Fact<Lockdown> {
    // "none [integrity] confidentiality": the brackets mark the present one.
    let text = text(root, "sys/kernel/security/lockdown")?;
    let level = text.split(['[', ']']).nth(1).unwrap_or_default();
    match level {
        "none" => Ok(Lockdown::None),
        "integrity" => Ok(Lockdown::Integrity),
        "confidentiality" => Ok(Lockdown::Confidentiality),
        _ => Err(format!("/sys/kernel/security/lockdown holds {text:?}")),
    }
}

fn btf(root: &Path) -> Fact<Btf> {
    let path = "sys/kernel/btf/vmlinux";
    fs::File::open(root.join(path)).map_err(|error| unreadable(path, &error))?;
    // It is silent from here on: an error says what came of it.
    let _heard = Listening::begin();
    let types = libbpf_rs::btf::Btf::from_path(root.join(path))
        .map_err(|error| format!("/{path} cannot be understood: {error}"))?;
    let has = |name| types.type_by_name::<Func<'_>>(name).is_some();
    Ok(Btf {
        lsm_hooks: has("bpf_lsm_bprm_creds_for_exec") && has("bpf_lsm_task_alloc"),
        flat_mask: takes(&types, ("scx_bpf_get_idle_smtmask", 0)),
        node_mask: takes(&types, ("scx_bpf_get_idle_smtmask_node", 1)),
    })
}

fn bpffs(root: &Path) -> Fact<bool> {
    let mounts = text(root, "proc/self/mounts")?;
    Ok(mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some("/sys/fs/bpf") && fields.next() == Some("bpf")
    }))
}

fn number(root: &Path, path: &str) -> Fact<i64> {
    let text = text(root, path)?;
    text.parse().map_err(|_| format!("/{path} holds {text:?}"))
}

fn text(root: &Path, path: &str) -> Fact<String> {
    fs::read_to_string(root.join(path))
        .map(|text| text.trim().into())
        .map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &str, error: &io::Error) -> String {
    format!("/{path} cannot be read: {error}")
}

#[cfg(test)]
mod tests;
