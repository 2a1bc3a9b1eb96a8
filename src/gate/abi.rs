// SPDX-License-Identifier: GPL-2.0-only
//! The types of `bpf/abi.h` as bytes: keys and values of maps, records of the ring buffer.

pub use super::skel::types::{
    action, active, candidate, change, claim_end, claim_head, claim_limits, core, counters,
    details, doing, effect, event, failures, hold, honour, hook, isolation, kept, key, key_exe,
    limits, literal, literal_kind, live_claim, mode, node, order, order_word, outcome, pace,
    picture, rule, scope, settings, shape, source, string, string_kind, suffix, survey, verdict,
};
use crate::raw::plain_types;
pub(super) use crate::raw::{bytes, live, read, write};

plain_types! {
    candidate: 16,
    change: 16,
    claim_end: 64,
    claim_head: 32,
    core: 40,
    counters: 80,
    details: 1296,
    event: 952,
    failures: 88,
    honour: 32,
    kept: 440,
    key: 24,
    literal: 8,
    live_claim: 168,
    node: 8,
    order: 336,
    pace: 16,
    picture: 176,
    rule: 64,
    string: 24,
    suffix: 16,
    survey: 36,
}

/// The text in a NUL-padded field, with what is not UTF-8 replaced.
pub fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}
