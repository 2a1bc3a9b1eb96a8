// SPDX-License-Identifier: GPL-2.0-only
use tempfile::TempDir;

use super::*;
use crate::kernel::Kfunc;
use crate::kernel::kfuncs::tests::btf_of;

/// A `/proc` and `/sys` with these files.
fn machine(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn facts(files: &[(&str, &str)]) -> Facts {
    Facts::gather(machine(files).path())
}

#[test]
fn nothing_mounted() {
    let facts = facts(&[]);
    assert_eq!(
        facts.lsms.unwrap_err(),
        "/sys/kernel/security/lsm cannot be read: No such file or directory (os error 2)"
    );
    assert!(facts.release.is_err() && facts.lockdown.is_err() && facts.btf.is_err());
    assert!(facts.jit.is_err() && facts.bpffs.is_err());
    assert!(Symbols::read(machine(&[]).path()).is_err());
    assert_eq!((facts.sched_ext, facts.lsm_parameter), (None, None));
    assert!(!facts.privileges.initial_user_namespace);
}

#[test]
fn single_files() {
    let facts = facts(&[
        ("proc/sys/kernel/osrelease", "7.3.4+deb14-cloud-amd64\n"),
        ("proc/cmdline", "quiet lsm=a,b ro lsm=c,bpf\n"),
        ("proc/self/uid_map", "         0          0 4294967295\n"),
        ("proc/sys/net/core/bpf_jit_enable", "0\n"),
        ("proc/sys/kernel/kptr_restrict", "2\n"),
        ("sys/kernel/security/lsm", "lockdown,capability,bpf"),
        (
            "sys/kernel/security/lockdown",
            "none [integrity] confidentiality\n",
        ),
    ]);
    assert_eq!(facts.release.unwrap(), "7.3.4+deb14-cloud-amd64");
    assert_eq!(facts.lsm_parameter.unwrap(), "c,bpf");
    assert!(facts.privileges.initial_user_namespace);
    assert_eq!(facts.jit, Ok(false));
    assert_eq!(facts.kptr_restrict, Ok(2));
    assert_eq!(facts.lsms.unwrap(), ["lockdown", "capability", "bpf"]);
    assert_eq!(facts.lockdown, Ok(Lockdown::Integrity));
}

#[test]
fn a_container_is_no_initial_user_namespace() {
    let facts = facts(&[("proc/self/uid_map", "0 100000 65536\n")]);
    assert!(!facts.privileges.initial_user_namespace);
}

fn with_functions(functions: &[Kfunc<'_>]) -> Btf {
    let root = machine(&[("sys/kernel/btf/vmlinux", "")]);
    let path = root.path().join("sys/kernel/btf/vmlinux");
    fs::write(path, btf_of(functions)).unwrap();
    Facts::gather(root.path()).btf.unwrap()
}

#[test]
fn names_in_btf() {
    let names = |names: &[&str]| {
        let functions: Vec<_> = names.iter().map(|name| (*name, 1)).collect();
        with_functions(&functions)
    };
    let lsm = ["bpf_lsm_task_alloc", "bpf_lsm_bprm_creds_for_exec"];
    assert!(names(&lsm).lsm_hooks);
    assert!(!names(&lsm[1..]).lsm_hooks);
    assert!(!names(&["x_bpf_lsm_task_alloc", "bpf_lsm_bprm_creds_for_exec_x"]).lsm_hooks);
    let node = names(&["scx_bpf_get_idle_smtmask_node"]);
    assert!(node.node_mask && !node.flat_mask);
    // The kernel refuses calls of one whose implicit argument is described.
    assert!(with_functions(&[("scx_bpf_get_idle_smtmask", 0)]).flat_mask);
    assert!(!with_functions(&[("scx_bpf_get_idle_smtmask", 1)]).flat_mask);
    assert!(!with_functions(&[("scx_bpf_get_idle_smtmask_node", 2)]).node_mask);
    let torn = facts(&[("sys/kernel/btf/vmlinux", "torn")]).btf;
    assert!(torn.unwrap_err().contains("cannot be understood"));
}

#[test]
fn bpf_file_system() {
    let mounted = |mounts: &str| facts(&[("proc/self/mounts", mounts)]).bpffs == Ok(true);
    assert!(mounted(
        "proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw,mode=700 0 0\n"
    ));
    assert!(mounted("none /sys/fs/bpf bpf rw 0 0\n"));
    assert!(!mounted(
        "tmpfs /sys/fs/bpf tmpfs rw 0 0\nbpf /mnt bpf rw 0 0\n"
    ));
}

#[test]
fn scheduler_states() {
    let enabled = facts(&[
        ("sys/kernel/sched_ext/state", "enabled\n"),
        ("sys/kernel/sched_ext/switch_all", "1\n"),
        ("sys/kernel/sched_ext/enable_seq", "12\n"),
        ("sys/kernel/sched_ext/root/ops", "companion\n"),
    ]);
    assert_eq!(
        enabled.sched_ext,
        Some(SchedExt {
            state: "enabled".into(),
            ops: Some("companion".into()),
            enable_seq: Some(12),
            switch_all: Some(true),
        })
    );
    let old = facts(&[("sys/kernel/sched_ext/state", "disabled\n")])
        .sched_ext
        .unwrap();
    assert_eq!(
        (old.ops, old.enable_seq, old.switch_all),
        (None, None, None)
    );
}

#[test]
fn symbols_and_their_addresses() {
    let symbols = |text: &str| Symbols::read(machine(&[("proc/kallsyms", text)]).path()).unwrap();
    let all = "ffffffff81000000 T _text\n\
               ffffffff82000010 d scx_root\n\
               ffffffff82000020 d scx_builtin_idle_enabled\n\
               ffffffff82000030 d scx_builtin_idle_per_node\n\
               ffffffff82000040 b scx_enable_seq\n\
               ffffffff82000050 R cpu_bit_bitmap\n\
               ffffffffc0000000 t helper\t[module]\n";
    assert!(symbols(all).usable());
    let hidden = symbols(
        &all.replace("ffffffff8", "000000000")
            .replace(['1', '2', '3', '4', '5'], "0"),
    );
    assert!(hidden.hidden && hidden.missing.is_empty() && !hidden.usable());
    let functions = symbols("ffffffff81000000 T _text\n");
    assert!(!functions.variables && functions.missing == Symbols::NEEDED);
    let older = symbols("ffffffff81000000 T _text\nffffffff82000000 D jiffies\n");
    assert!(older.variables && !older.usable());
    let similar = symbols("ffffffff82000010 d scx_root_kobj\n");
    assert_eq!(similar.missing, Symbols::NEEDED);
}

#[test]
fn this_machine() {
    let facts = Facts::gather(Path::new("/"));
    assert!(facts.release.is_ok());
    assert_eq!(facts.privileges.euid, Uid::effective().as_raw());
}
