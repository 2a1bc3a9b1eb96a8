// SPDX-License-Identifier: GPL-2.0-only
//! Which idle source follows from the facts, as far as they decide it.

use serde::Serialize;

use super::{Btf, Fact, Facts, Symbols};
use crate::policy::words;

words! {
    /// Where the gate can read which cores are idle.
    pub enum Source {
        /// sched_ext's idle mask of one node.
        Node = "node",
        /// sched_ext's idle mask of the whole machine, cut to the node.
        Flat = "flat",
        /// The CPUs' own run queues: works on every kernel.
        Runqueue = "runqueue",
    }
}

/// The idle source that follows from the facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdleSource {
    /// The best that this kernel can give, with a scheduler that suits it.
    pub best: Source,
    /// The one that is used now; `None` if that depends on the flags of the
    /// loaded scheduler, which only a running gate can read.
    pub now: Option<Source>,
    /// Why it is so.
    pub reason: String,
}

/// Which idle source the gate will use.
pub fn idle_source(facts: &Facts, symbols: &Fact<Symbols>) -> IdleSource {
    let scan = |reason: String| IdleSource {
        best: Source::Runqueue,
        now: Some(Source::Runqueue),
        reason,
    };
    let Some(sched_ext) = &facts.sched_ext else {
        return scan("this kernel has no sched_ext".into());
    };
    let best = match &facts.btf {
        Ok(Btf {
            node_mask: true, ..
        }) => Source::Node,
        Ok(Btf {
            flat_mask: true, ..
        }) => Source::Flat,
        _ => return scan("this kernel's sched_ext has no idle masks for BPF programs".into()),
    };
    match symbols {
        Ok(symbols) if symbols.usable() => {}
        _ => return scan("it cannot be read which idle mask is safe to ask for".into()),
    }
    let (now, reason) = match (sched_ext.state.as_str(), &sched_ext.ops) {
        ("disabled", _) => (Some(Source::Runqueue), "no scheduler is loaded".into()),
        ("enabled", Some(ops)) => (
            None,
            format!("the flags of the scheduler {ops} decide; `coregate status` shows it"),
        ),
        (state, _) => (
            None,
            format!("sched_ext is {state}; `coregate status` shows it"),
        ),
    };
    IdleSource { best, now, reason }
}
