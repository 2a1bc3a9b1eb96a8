// SPDX-License-Identifier: GPL-2.0-only
//! What the gate needs, whether it is there, and what to do if it is not. Pure
//! rules over facts.

use std::fmt;

use serde::Serialize;

use super::{Fact, Facts, Lockdown, Symbols};

/// Whether a need is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is not.
    Missing,
    /// It could not be found out.
    Unknown,
    /// It is not, and the gate works without, but less well.
    Limited,
    /// It is.
    Ok,
}

/// What the gate cannot do without this need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Required {
    /// Nothing works, and the kernel has to be changed or set up otherwise.
    Kernel,
    /// Nothing works for this process; for one with more rights it does.
    Privilege,
    /// It works without.
    No,
}

/// One need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Its name in JSON; never changes.
    pub name: &'static str,
    /// Its name for people.
    #[serde(skip)]
    pub title: &'static str,
    /// Whether it is met.
    pub status: Status,
    /// What hangs on it.
    pub required: Required,
    /// What was found.
    pub found: String,
    /// What to do; there unless the status is [`Status::Ok`]. A line that is
    /// indented is to be typed as it stands.
    pub remedy: Option<String>,
}

/// What keeps something from working on this kernel, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Lack {
    /// What the kernel lacks.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Everything the gate needs or makes use of, in the order in which it would
/// be put right; `companion` is whether the companion suits this kernel.
pub fn needs(facts: &Facts, symbols: &Fact<Symbols>, companion: &Result<(), Lack>) -> Vec<Need> {
    let mut needs = required(facts);
    needs.extend([
        cap_sys_admin(facts),
        sched_ext(facts),
        idle_masks(facts),
        kernel_symbols(facts, symbols),
        scheduler(facts, companion.is_ok()),
        self::companion(facts, companion),
        bpffs(facts),
    ]);
    needs
}

/// Those of [`needs`] without which the gate cannot work.
pub fn required(facts: &Facts) -> Vec<Need> {
    vec![
        bpf_lsm(facts),
        btf(facts),
        jit(facts),
        lockdown(facts),
        capability("cap_bpf", "CAP_BPF", facts.privileges.bpf, facts),
        capability(
            "cap_perfmon",
            "CAP_PERFMON",
            facts.privileges.perfmon,
            facts,
        ),
    ]
}

impl Need {
    /// Whether the gate certainly cannot work because of this.
    pub fn blocks(&self) -> bool {
        self.status == Status::Missing && self.required != Required::No
    }

    /// Whether the gate may not work because of this: it is missing, or that could not be
    /// found out.
    pub fn is_lacking(&self) -> bool {
        matches!(self.status, Status::Missing | Status::Unknown) && self.required != Required::No
    }

    fn ok(name: &'static str, title: &'static str, found: impl Into<String>) -> Self {
        let (status, required) = (Status::Ok, Required::No);
        Self {
            name,
            title,
            status,
            required,
            found: found.into(),
            remedy: None,
        }
    }

    /// Marks what the gate cannot do without.
    fn required(self, required: Required) -> Self {
        Self { required, ..self }
    }

    fn wants(self, status: Status, remedy: impl Into<String>) -> Self {
        Self {
            status,
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

/// Title, what was found and what to do, as an error says it.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.found)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n{remedy}"),
            None => Ok(()),
        }
    }
}

const MOUNT_SECURITYFS: &str =
    "Mount securityfs and ask again:\n    mount -t securityfs securityfs /sys/kernel/security";

fn bpf_lsm(facts: &Facts) -> Need {
    let need = |found: String| Need::ok("bpf_lsm", "BPF LSM", found).required(Required::Kernel);
    if facts.btf.as_ref().is_ok_and(|btf| !btf.lsm_hooks) {
        let remedy = "Boot a kernel built with CONFIG_BPF_LSM=y, such as Debian's own.";
        return need("not built into this kernel".into()).wants(Status::Missing, remedy);
    }
    match &facts.lsms {
        Ok(lsms) if lsms.iter().any(|lsm| lsm == "bpf") => {
            need(format!("active: {}", lsms.join(", ")))
        }
        Ok(lsms) => need(format!("not active: {}", lsms.join(", "))).wants(
            Status::Missing,
            activate_bpf_lsm(lsms, facts.lsm_parameter.as_deref()),
        ),
        Err(why) => need(why.clone()).wants(Status::Unknown, MOUNT_SECURITYFS),
    }
}

fn activate_bpf_lsm(lsms: &[String], present: Option<&str>) -> String {
    let mut list = lsms.to_vec();
    list.push("bpf".into());
    let list = list.join(",");
    let replace = match present {
        Some(present) => format!(" in place of lsm={present}"),
        None => String::new(),
    };
    format!(
        "Boot with this on the kernel's command line{replace}:\n    \
         lsm={list}\n\
         With GRUB on Debian: put it into GRUB_CMDLINE_LINUX in /etc/default/grub, then\n    \
         update-grub && reboot\n\
         With GRUB on Fedora:\n    \
         grubby --update-kernel=ALL --args=lsm={list} && reboot"
    )
}

fn btf(facts: &Facts) -> Need {
    let need = |found| Need::ok("btf", "BTF", found).required(Required::Kernel);
    match &facts.btf {
        Ok(_) => need("/sys/kernel/btf/vmlinux"),
        Err(why) => need(why).wants(
            Status::Missing,
            "Mount sysfs, or boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, such as Debian's own.",
        ),
    }
}

fn jit(facts: &Facts) -> Need {
    let need = |found| Need::ok("bpf_jit", "BPF JIT", found);
    match &facts.jit {
        Ok(true) => need("on").required(Required::Kernel),
        Ok(false) => need("off: LSM and scheduler programs need it")
            .required(Required::Kernel)
            .wants(
                Status::Missing,
                "Switch it on:\n    sysctl -w net.core.bpf_jit_enable=1",
            ),
        // Only root may read it, and most kernels cannot switch it off at all.
        Err(why) => need(why).wants(
            Status::Unknown,
            "Ask again as root; on most kernels it is always on.",
        ),
    }
}

fn lockdown(facts: &Facts) -> Need {
    let need = |found| Need::ok("lockdown", "Lockdown", found).required(Required::Kernel);
    match &facts.lockdown {
        Ok(Lockdown::None) => need("none"),
        Ok(Lockdown::Integrity) => need("integrity: the gate may still read kernel memory"),
        Ok(Lockdown::Confidentiality) => {
            need("confidentiality: the gate may not read kernel memory").wants(
                Status::Missing,
                "Take lockdown=confidentiality off the kernel's command line, or set it to \
                 lockdown=integrity.",
            )
        }
        // Without the lockdown LSM there is nothing to be locked down by.
        Err(_) if no_lockdown_lsm(facts) => need("not built into this kernel, or not active"),
        Err(why) => need(why).wants(Status::Unknown, MOUNT_SECURITYFS),
    }
}

fn no_lockdown_lsm(facts: &Facts) -> bool {
    facts
        .lsms
        .as_ref()
        .is_ok_and(|lsms| lsms.iter().all(|lsm| lsm != "lockdown"))
}

fn capability(name: &'static str, title: &'static str, present: bool, facts: &Facts) -> Need {
    let privileges = &facts.privileges;
    let need = |found: String| Need::ok(name, title, found).required(Required::Privilege);
    let user = privileges.euid;
    if !privileges.initial_user_namespace && (present || privileges.sys_admin) {
        return need("does not count in a user namespace, as in a container".into())
            .wants(Status::Missing, "Run coregate on the host itself.");
    }
    if present {
        need("effective".into())
    } else if privileges.sys_admin {
        need("covered by CAP_SYS_ADMIN".into())
    } else {
        need(format!("not effective for user {user}")).wants(
            Status::Missing,
            format!("Run coregate as root, or give it {title}."),
        )
    }
}

/// Never a want: said so that nobody grants it for nothing.
fn cap_sys_admin(facts: &Facts) -> Need {
    let found = if facts.privileges.sys_admin {
        "effective, but not needed to load or attach the gate"
    } else {
        "not effective; needed only to mount a BPF file system"
    };
    Need::ok("cap_sys_admin", "CAP_SYS_ADMIN", found)
}

fn sched_ext(facts: &Facts) -> Need {
    let need = |found| Need::ok("sched_ext", "sched_ext", found);
    match &facts.sched_ext {
        Some(_) => need("built into this kernel"),
        None => need("not built into this kernel: idleness is read from run queues").wants(
            Status::Limited,
            "For idle masks and the companion scheduler, boot a kernel built with \
             CONFIG_SCHED_CLASS_EXT=y, such as Debian's from 6.16 on.",
        ),
    }
}

fn idle_masks(facts: &Facts) -> Need {
    let need = |found| Need::ok("idle_masks", "Idle masks", found);
    match &facts.btf {
        Ok(btf) if btf.node_mask && btf.flat_mask => need("by node"),
        Ok(btf) if btf.node_mask => need("by node only").wants(
            Status::Limited,
            "For the mask of schedulers that do not track by node, boot another kernel: this one \
             refuses calls of scx_bpf_get_idle_smtmask.",
        ),
        Ok(btf) if btf.flat_mask => need("for the whole machine only").wants(
            Status::Limited,
            "For a mask by node, boot Linux 6.15 or newer.",
        ),
        Ok(_) if facts.sched_ext.is_none() => need("none: idleness is read from run queues")
            .wants(Status::Limited, "They come with sched_ext: see there."),
        Ok(_) => need("none: idleness is read from run queues").wants(
            Status::Limited,
            "For idle masks, boot another kernel: this one lacks scx_bpf_get_idle_smtmask and \
             scx_bpf_get_idle_smtmask_node, or refuses calls of them.",
        ),
        Err(_) => need("not known without BTF").wants(Status::Unknown, "See BTF."),
    }
}

fn kernel_symbols(facts: &Facts, symbols: &Fact<Symbols>) -> Need {
    let need = |found: String| Need::ok("kernel_symbols", "Kernel symbols", found);
    match symbols {
        Ok(symbols) if symbols.usable() => need("the state of sched_ext can be read".into()),
        Ok(symbols) if symbols.hidden => need("their addresses are hidden from coregate".into())
            .wants(Status::Limited, reveal_addresses(&facts.kptr_restrict)),
        Ok(_) if facts.sched_ext.is_none() => need("not needed without sched_ext".into()),
        Ok(Symbols {
            variables: false, ..
        }) => need("variables are not listed: idleness is read from run queues".into()).wants(
            Status::Limited,
            "For idle masks, boot a kernel built with CONFIG_KALLSYMS_ALL=y, such as \
                 Debian's own.",
        ),
        Ok(symbols) => need(format!("this kernel has no {}", symbols.missing.join(", ")))
            .wants(Status::Limited, "For idle masks, boot Linux 6.16 or newer."),
        Err(why) => need(why.clone()).wants(Status::Unknown, "Mount procfs at /proc."),
    }
}

fn reveal_addresses(kptr_restrict: &Fact<u32>) -> String {
    match kptr_restrict {
        Ok(level) if *level >= 2 => {
            "For idle masks, let privileged programs see them:\n    \
             sysctl -w kernel.kptr_restrict=1"
        }
        _ => "For idle masks, run coregate as root, or give it CAP_SYSLOG.",
    }
    .into()
}

fn companion(facts: &Facts, suits: &Result<(), Lack>) -> Need {
    let need = |found: String| Need::ok("companion", "Companion", found);
    match suits {
        Ok(()) => need("this kernel has all that the companion scheduler needs".into()),
        Err(_) if facts.sched_ext.is_none() => need("cannot be loaded without sched_ext".into())
            .wants(Status::Limited, "See sched_ext."),
        Err(_) if facts.btf.is_err() => {
            need("not known without BTF".into()).wants(Status::Unknown, "See BTF.")
        }
        Err(lack) => need(format!("cannot be loaded: {}", lack.what))
            .wants(Status::Limited, format!("To use it, {}.", lack.remedy)),
    }
}

fn scheduler(facts: &Facts, companion: bool) -> Need {
    let need = |found: String| Need::ok("scheduler", "Scheduler", found);
    let Some(sched_ext) = &facts.sched_ext else {
        return need("the kernel's own".into());
    };
    let ops = sched_ext.ops.as_deref().unwrap_or("without a name");
    match sched_ext.state.as_str() {
        "enabled" => need(format!("{ops}; its flags are read by the running gate")),
        "disabled" => need("the kernel's own: idleness is read from run queues".into()).wants(
            Status::Limited,
            if companion {
                "For idle masks, start a scheduler that tracks them by node:\n    \
                 coregate companion"
            } else {
                "For idle masks, start a scheduler that tracks them by node. The companion cannot \
                 be loaded here: see Companion."
            },
        ),
        state => need(format!("{ops}, {state}")).wants(Status::Unknown, "Ask again in a moment."),
    }
}

fn bpffs(facts: &Facts) -> Need {
    let need = |found| Need::ok("bpffs", "BPF file system", found);
    match &facts.bpffs {
        Ok(true) => need("mounted at /sys/fs/bpf"),
        Ok(false) => need("not mounted at /sys/fs/bpf").wants(
            Status::Limited,
            "Mount it:\n    mount -t bpf bpf /sys/fs/bpf",
        ),
        Err(why) => need(why).wants(Status::Unknown, "Mount procfs at /proc."),
    }
}

#[cfg(test)]
mod tests;
