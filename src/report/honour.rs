// SPDX-License-Identifier: GPL-2.0-only
//! Whether programs that hold cores have them to themselves.

use serde::{Deserialize, Serialize};

/// What is known of that: by samples, and, for as long as the companion was in charge, by every switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Honour {
    /// How often a program was seen on a CPU while it had a claim: about every 10 ms of its running.
    pub samples: u64,
    /// How often something else ran on another hardware thread of the same core then.
    pub shared: u64,
    /// How long CPUs ran for a program that had a claim, in nanoseconds: only while the companion was in
    /// charge, and then exact.
    pub ran_ns: u64,
    /// For how long of that something else ran on another hardware thread of the same core.
    pub shared_ns: u64,
}

/// How much running a sample stands for on average (SAMPLE_MIN_NS and SAMPLE_MAX_NS, bpf/honour.bpf.h).
const SAMPLE_NS: u64 = 10_000_000;

impl Honour {
    /// The share of time with the core to itself, in percent: exact if the companion was in charge for most
    /// of it, else by samples. `None`: nothing was seen running.
    pub fn share(&self) -> Option<f64> {
        let (whole, shared) = if self.ran_ns > self.samples.saturating_mul(SAMPLE_NS / 2) {
            (self.ran_ns, self.shared_ns)
        } else {
            (self.samples, self.shared)
        };
        (whole > 0).then(|| 100.0 * (1.0 - shared as f64 / whole as f64))
    }
}

#[cfg(test)]
mod tests;
