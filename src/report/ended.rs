// SPDX-License-Identifier: GPL-2.0-only
//! The end of a claim, as it is logged.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::event::rfc3339;
use super::honour::Honour;

/// A claim that ended after a second or more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ended {
    /// When it was.
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// Name of the rule by which its program was admitted.
    pub rule: String,
    /// The process that took it: of a fork, the parent.
    pub pid: u32,
    /// How long it held its cores, in seconds.
    #[serde(serialize_with = "seconds")]
    pub held: Duration,
    /// Whether it had them to itself.
    #[serde(flatten)]
    pub honour: Honour,
}

fn seconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_millis() as f64 / 1e3)
}

/// One line of `key=value` pairs.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.as_secs_f64();
        write!(
            f,
            "ended rule={} pid={} held={held:.1}s",
            self.rule, self.pid
        )?;
        let Honour {
            samples,
            shared,
            ran_ns,
            shared_ns,
        } = self.honour;
        if let Some(share) = self.honour.share() {
            write!(f, " honoured={share:.2}%")?;
        }
        write!(f, " samples={samples} shared={shared}")?;
        if ran_ns > 0 {
            let [ran, shared] =
                [ran_ns, shared_ns].map(|ns| Duration::from_nanos(ns).as_secs_f64());
            write!(f, " ran={ran:.3}s shared_for={shared:.6}s")?;
        }
        Ok(())
    }
}
