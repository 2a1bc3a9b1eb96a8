// SPDX-License-Identifier: GPL-2.0-only
use super::*;
use crate::kernel::{Btf, IdleSource, Privileges, SchedExt, Source};

/// A machine on which nothing is wanting, with a per-node scheduler.
fn good() -> Facts {
    Facts {
        release: Ok("7.3.4".into()),
        privileges: Privileges {
            euid: 0,
            initial_user_namespace: true,
            bpf: true,
            perfmon: true,
            sys_admin: true,
            syslog: true,
        },
        lsms: list("lockdown,capability,landlock,yama,apparmor,bpf"),
        lsm_parameter: None,
        lockdown: Ok(Lockdown::None),
        btf: Ok(Btf {
            lsm_hooks: true,
            flat_mask: true,
            node_mask: true,
        }),
        jit: Ok(true),
        bpffs: Ok(true),
        sched_ext: Some(SchedExt {
            state: "enabled".into(),
            ops: Some("companion".into()),
            enable_seq: Some(1),
            switch_all: Some(true),
        }),
        kptr_restrict: Ok(1),
    }
}

/// All symbols are there, with their addresses.
fn readable() -> Fact<Symbols> {
    Ok(Symbols {
        missing: Vec::new(),
        hidden: false,
        variables: true,
    })
}

fn needs(facts: &Facts) -> Vec<Need> {
    super::needs(facts, &readable(), &Ok(()))
}

fn idle_source(facts: &Facts) -> IdleSource {
    crate::kernel::idle_source(facts, &readable())
}

fn lack() -> Lack {
    Lack {
        what: "kernel X refuses calls of f".into(),
        remedy: "boot another kernel",
    }
}

fn list(lsms: &str) -> Fact<Vec<String>> {
    Ok(lsms.split(',').map(String::from).collect())
}

fn need(facts: &Facts, name: &str) -> Need {
    needs(facts)
        .into_iter()
        .find(|need| need.name == name)
        .unwrap()
}

/// The names of the needs that are not met.
fn unmet(facts: &Facts) -> Vec<&'static str> {
    names_of_unmet(&needs(facts))
}

fn names_of_unmet(needs: &[Need]) -> Vec<&'static str> {
    needs
        .iter()
        .filter(|need| need.status != Status::Ok)
        .map(|need| need.name)
        .collect()
}

#[test]
fn a_good_machine_wants_nothing() {
    assert_eq!(unmet(&good()), [""; 0]);
    let source = idle_source(&good());
    assert_eq!((source.best, source.now), (Source::Node, None));
    assert!(source.reason.contains("companion"));
}

#[test]
fn every_need_that_is_not_met_has_a_remedy() {
    let nothing = Facts {
        lsms: Err("x".into()),
        lockdown: Err("x".into()),
        btf: Err("x".into()),
        jit: Err("x".into()),
        bpffs: Err("x".into()),
        sched_ext: None,
        ..good()
    };
    let unsuited = Facts {
        btf: Ok(Btf::default()),
        ..good()
    };
    for (facts, symbols, companion) in [
        (good(), readable(), Ok(())),
        (nothing, Err("x".into()), Err(lack())),
        (unsuited, readable(), Err(lack())),
    ] {
        let needs = super::needs(&facts, &symbols, &companion);
        for need in &needs {
            assert_eq!(need.remedy.is_none(), need.status == Status::Ok, "{need}");
        }
        let (required, others) = needs.split_at(required(&facts).len());
        assert_eq!(required, super::required(&facts));
        assert!(others.iter().all(|need| need.required == Required::No));
    }
}

#[test]
fn bpf_lsm_off() {
    let facts = Facts {
        lsms: list("lockdown,capability,landlock,yama,apparmor"),
        ..good()
    };
    let need = need(&facts, "bpf_lsm");
    assert!(need.blocks() && need.required == Required::Kernel);
    let remedy = need.remedy.unwrap();
    assert!(
        remedy.contains("\n    lsm=lockdown,capability,landlock,yama,apparmor,bpf\n"),
        "{remedy}"
    );
    assert!(remedy.contains("GRUB_CMDLINE_LINUX") && remedy.contains("update-grub"));
    assert!(!remedy.contains("in place of"));

    let facts = Facts {
        lsm_parameter: Some("yama".into()),
        ..facts
    };
    assert!(
        needs(&facts)[0]
            .to_string()
            .contains("in place of lsm=yama:")
    );
}

#[test]
fn bpf_lsm_not_built_in() {
    let btf = Ok(Btf {
        lsm_hooks: false,
        ..good().btf.unwrap()
    });
    let need = need(&Facts { btf, ..good() }, "bpf_lsm");
    assert!(need.blocks() && need.remedy.unwrap().contains("CONFIG_BPF_LSM=y"));
}

#[test]
fn securityfs_not_mounted() {
    let facts = Facts {
        lsms: Err("gone".into()),
        lockdown: Err("gone".into()),
        ..good()
    };
    assert_eq!(unmet(&facts), ["bpf_lsm", "lockdown"]);
    assert_eq!(need(&facts, "bpf_lsm").status, Status::Unknown);
    assert!(
        need(&facts, "lockdown")
            .remedy
            .unwrap()
            .contains("mount -t securityfs")
    );
    // With the list readable, no lockdown file means no lockdown.
    let facts = Facts {
        lsms: list("capability,bpf"),
        ..facts
    };
    assert_eq!(unmet(&facts), [""; 0]);
}

#[test]
fn what_the_kernel_must_allow() {
    let facts = Facts {
        btf: Err("gone".into()),
        ..good()
    };
    assert!(need(&facts, "btf").blocks());
    let facts = Facts {
        jit: Ok(false),
        ..good()
    };
    assert!(need(&facts, "bpf_jit").blocks());
    let facts = Facts {
        lockdown: Ok(Lockdown::Confidentiality),
        ..good()
    };
    assert!(need(&facts, "lockdown").blocks());
    let facts = Facts {
        lockdown: Ok(Lockdown::Integrity),
        ..good()
    };
    assert_eq!(unmet(&facts), [""; 0]);
}

#[test]
fn privileges() {
    let with = |change: fn(&mut Privileges)| {
        let mut facts = good();
        change(&mut facts.privileges);
        facts
    };
    let none = with(|p| (p.bpf, p.perfmon, p.sys_admin) = (false, false, false));
    assert_eq!(unmet(&none), ["cap_bpf", "cap_perfmon"]);
    assert!(!none.privileges.suffice());
    assert!(
        needs(&none)
            .iter()
            .filter(|need| need.blocks())
            .all(|need| need.required == Required::Privilege)
    );
    // The kernel lets CAP_SYS_ADMIN stand for both, and both do without it.
    for enough in [
        with(|p| (p.bpf, p.perfmon) = (false, false)),
        with(|p| p.sys_admin = false),
    ] {
        assert_eq!(unmet(&enough), [""; 0]);
        assert!(enough.privileges.suffice());
    }
    let half = with(|p| (p.perfmon, p.sys_admin) = (false, false));
    assert_eq!(unmet(&half), ["cap_perfmon"]);
    assert!(!half.privileges.suffice());
    let container = with(|p| p.initial_user_namespace = false);
    assert_eq!(unmet(&container), ["cap_bpf", "cap_perfmon"]);
    assert!(need(&container, "cap_bpf").found.contains("user namespace"));
}

#[test]
fn without_sched_ext_the_run_queues_are_scanned() {
    let facts = Facts {
        sched_ext: None,
        btf: Ok(Btf {
            lsm_hooks: true,
            ..Btf::default()
        }),
        ..good()
    };
    let symbols = Ok(Symbols {
        missing: Symbols::NEEDED.into(),
        hidden: false,
        variables: true,
    });
    let needs = super::needs(&facts, &symbols, &Err(lack()));
    assert_eq!(
        names_of_unmet(&needs),
        ["sched_ext", "idle_masks", "companion"]
    );
    assert!(!needs.iter().any(Need::blocks));
    let source = crate::kernel::idle_source(&facts, &symbols);
    assert_eq!(
        (source.best, source.now),
        (Source::Runqueue, Some(Source::Runqueue))
    );
}

#[test]
fn masks_need_symbols_that_can_be_read() {
    let missing = vec!["scx_root"];
    let cases = [
        (
            Symbols {
                missing: missing.clone(),
                hidden: false,
                variables: false,
            },
            1,
            "KALLSYMS_ALL",
        ),
        (
            Symbols {
                missing,
                hidden: false,
                variables: true,
            },
            1,
            "6.16 or newer",
        ),
        (
            Symbols {
                missing: Vec::new(),
                hidden: true,
                variables: true,
            },
            1,
            "CAP_SYSLOG",
        ),
        (
            Symbols {
                missing: Vec::new(),
                hidden: true,
                variables: true,
            },
            2,
            "kptr_restrict=1",
        ),
    ];
    for (symbols, kptr_restrict, remedy) in cases {
        let facts = Facts {
            kptr_restrict: Ok(kptr_restrict),
            ..good()
        };
        let symbols = Ok(symbols);
        let needs = super::needs(&facts, &symbols, &Ok(()));
        assert_eq!(names_of_unmet(&needs), ["kernel_symbols"]);
        let text = kernel_symbols(&facts, &symbols).to_string();
        assert!(text.contains(remedy), "{text}");
        let source = crate::kernel::idle_source(&facts, &symbols);
        assert_eq!(source.best, Source::Runqueue);
    }
}

#[test]
fn what_the_kernel_refuses() {
    let masks = |flat_mask, node_mask| {
        let btf = Btf {
            flat_mask,
            node_mask,
            ..good().btf.unwrap()
        };
        let facts = Facts {
            btf: Ok(btf),
            ..good()
        };
        (need(&facts, "idle_masks"), idle_source(&facts).best)
    };
    assert_eq!(masks(true, true).0.status, Status::Ok);
    for (flat, node, best) in [
        (false, true, Source::Node),
        (true, false, Source::Flat),
        (false, false, Source::Runqueue),
    ] {
        let (need, source) = masks(flat, node);
        assert_eq!((need.status, source), (Status::Limited, best), "{need}");
        assert!(!need.remedy.unwrap().contains("see there"));
    }
}

#[test]
fn the_companion_by_what_the_kernel_lacks() {
    let sched_ext = SchedExt {
        state: "disabled".into(),
        ops: None,
        ..good().sched_ext.unwrap()
    };
    let facts = Facts {
        sched_ext: Some(sched_ext),
        ..good()
    };
    let needs = super::needs(&facts, &readable(), &Err(lack()));
    assert_eq!(names_of_unmet(&needs), ["scheduler", "companion"]);
    assert!(!needs.iter().any(Need::is_lacking));
    let text: Vec<_> = needs.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    assert!(
        text.contains("cannot be loaded: kernel X refuses calls of f"),
        "{text}"
    );
    assert!(text.contains("boot another kernel"), "{text}");
    // Nobody is told to start it.
    assert!(!text.contains("coregate companion"), "{text}");

    let blind = Facts {
        btf: Err("gone".into()),
        ..facts
    };
    let companion = companion(&blind, &Err(lack()));
    assert_eq!(companion.status, Status::Unknown);
}

#[test]
fn schedulers() {
    let state = |state: &str| {
        let sched_ext = SchedExt {
            state: state.into(),
            ops: None,
            enable_seq: None,
            switch_all: None,
        };
        Facts {
            sched_ext: Some(sched_ext),
            ..good()
        }
    };
    let off = state("disabled");
    assert_eq!(unmet(&off), ["scheduler"]);
    assert!(
        need(&off, "scheduler")
            .remedy
            .unwrap()
            .contains("coregate companion")
    );
    assert_eq!(idle_source(&off).now, Some(Source::Runqueue));
    let coming = state("enabling");
    assert_eq!(need(&coming, "scheduler").status, Status::Unknown);
    assert_eq!(idle_source(&coming).now, None);
    let flat = Facts {
        btf: Ok(Btf {
            node_mask: false,
            ..good().btf.unwrap()
        }),
        ..good()
    };
    assert_eq!(idle_source(&flat).best, Source::Flat);
}
