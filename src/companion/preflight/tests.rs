// SPDX-License-Identifier: GPL-2.0-only
use super::*;

#[test]
fn the_functions_are_those_of_the_object() {
    assert!(KFUNCS.contains(&("scx_bpf_create_dsq", 2)));
    assert!(KFUNCS.contains(&("scx_bpf_now", 0)));
    // It does without this one, and this one is its own.
    assert!(KFUNCS.contains(&("scx_bpf_task_set_slice___call", 2)));
    assert!(KFUNCS.iter().all(|(name, _)| *name != "help_claim"));
}
