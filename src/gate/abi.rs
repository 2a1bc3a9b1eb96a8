// SPDX-License-Identifier: GPL-2.0-only
//! The types of `bpf/abi.h` as bytes: keys and values of maps, records of the ring buffer.

pub use super::skel::types::{
    action, claim_head, core, counters, effect, event, exe, failures, hold, hook, launch_key,
    limits, mode, node, rule, scope, settings, source, survey, verdict,
};
use crate::raw::plain_types;
pub(super) use crate::raw::{bytes, live, read};

plain_types! {
    claim_head: 16,
    core: 40,
    counters: 40,
    event: 352,
    exe: 280,
    launch_key: 12,
    failures: 56,
    node: 8,
    rule: 56,
    survey: 32,
}

/// The text in a NUL-padded field, with what is not UTF-8 replaced.
pub fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}
