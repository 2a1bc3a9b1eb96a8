// SPDX-License-Identifier: GPL-2.0-only
//! What coregate says: verdicts as log lines, its state as a status.

mod event;
mod status;
mod syslog;

pub use event::Event;
pub use status::{Events, Failures, Node, Rule, Scheduler, Status};
pub use syslog::Syslog;
