// SPDX-License-Identifier: GPL-2.0-only
//! What coregate says: verdicts as log lines, its state as a status and as metrics, what would
//! change as a table.

mod changes;
mod cores;
#[cfg(test)]
mod docs;
mod ended;
mod event;
mod failures;
mod growth;
mod honour;
pub mod metrics;
mod replay;
mod sinks;
mod status;
mod suggest;

pub use changes::{Change, Changes, Example, Fate, Outcome};
pub use cores::{Claim, Core, CoreState, Cores, Cpu, CpuState, Held};
pub use ended::Ended;
pub use event::{Event, unit_of};
pub use failures::{Failure, Failures, Told};
pub use honour::Honour;
pub use replay::replay;
pub use sinks::{Severity, Sinks};
pub(crate) use status::shortened;
pub use status::{
    Concern, Events, Node, Rehearsal, Reload, Reloads, Room, Rule, Scheduler, Sink, Status,
    Surroundings,
};
pub use suggest::{Seen, Watched};
