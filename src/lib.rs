// SPDX-License-Identifier: GPL-2.0-only
//! CPU admission control: a latency-critical program starts only where a whole
//! physical core is free for it.
//!
//! Dependencies point one way: [`cli`] → daemon → {gate, companion, report} → {[`policy`],
//! [`topology`], [`kernel`]}.

pub mod cli;
pub mod companion;
pub mod daemon;
#[cfg(test)]
mod fuzz;
pub mod gate;
pub mod kernel;
mod libbpf_log;
pub mod policy;
pub mod policy_file;
pub mod privileges;
mod raw;
pub mod report;
pub mod topology;
