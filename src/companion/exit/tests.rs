// SPDX-License-Identifier: GPL-2.0-only
use super::*;

fn left(why: leave, restart: u32) -> farewell {
    let mut farewell = farewell {
        why,
        restart,
        kind: 77,
        ..farewell::default()
    };
    for (to, from) in farewell.reason.iter_mut().zip(b"a reason") {
        *to = from.cast_signed();
    }
    farewell
}

#[test]
fn nothing_is_read_while_it_runs() {
    assert_eq!(read(&farewell::default()), None);
}

#[test]
fn each_kind_has_its_value() {
    let kinds = [
        (leave::LEAVE_DONE, "done"),
        (leave::LEAVE_UNREG, "unregistered"),
        (leave::LEAVE_UNREG_BPF, "removed"),
        (leave::LEAVE_UNREG_KERN, "removed"),
        (leave::LEAVE_SYSRQ, "sysrq"),
        (leave::LEAVE_ERROR, "error"),
        (leave::LEAVE_ERROR_BPF, "own error"),
        (leave::LEAVE_STALL, "stall"),
        (leave::LEAVE_OTHER, "other"),
    ];
    for (why, kind) in kinds {
        let exit = read(&left(why, 0)).expect("it left");
        assert_eq!(exit.kind(), kind);
    }
}

#[test]
fn the_kernel_can_ask_for_a_restart() {
    let exit = read(&left(leave::LEAVE_UNREG_KERN, 1)).expect("it left");
    assert!(matches!(exit, ScxExit::Restart(_)));
}

#[test]
fn only_an_exit_that_was_asked_for_is_orderly() {
    assert!(ScxExit::Unregistered.is_orderly());
    assert!(!ScxExit::Sysrq(Words::default()).is_orderly());
    assert!(!ScxExit::Restart(Words::default()).is_orderly());
}

#[test]
fn the_kernels_words_are_told() {
    let exit = read(&left(leave::LEAVE_OTHER, 0)).expect("it left");
    assert_eq!(
        exit.to_string(),
        "kind: other (kernel's number 77), reason: a reason"
    );
}
