// SPDX-License-Identifier: GPL-2.0-only
//! What coregate says: verdicts as log lines, its state as a status and as metrics, what would
//! change as a table.

mod changes;
#[cfg(test)]
mod docs;
mod event;
mod failures;
mod growth;
pub mod metrics;
mod replay;
mod sinks;
mod status;
mod suggest;

pub use changes::{Change, Changes, Example, Fate, Outcome};
pub use event::{Event, unit_of};
pub use failures::{Failure, Failures, Told};
pub use replay::replay;
pub use sinks::{Severity, Sinks};
pub use status::{
    Concern, Events, Node, Rehearsal, Reload, Reloads, Room, Rule, Scheduler, Sink, Status,
    Surroundings,
};
pub use suggest::{Seen, Watched};
