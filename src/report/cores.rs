// SPDX-License-Identifier: GPL-2.0-only
//! What each core of the machine does at one moment, and who holds cores.

use serde::{Deserialize, Serialize};

use crate::policy::words;

words! {
    /// What a core does.
    #[derive(Default)]
    pub enum CoreState {
        /// A launch could have it.
        #[default]
        Free = "free",
        /// Something runs there that no rule is for.
        Busy = "busy",
        /// Nothing runs there but the program of one claim.
        Held = "held",
        /// The program of a claim runs there, and something else too.
        Shared = "shared",
        /// It has no thread that is online.
        Offline = "offline",
    }
}

words! {
    /// What a hardware thread does.
    #[derive(Default)]
    pub enum CpuState {
        /// Nothing.
        #[default]
        Idle = "idle",
        /// It runs something that no rule is for.
        Busy = "busy",
        /// It runs the program of a claim.
        Held = "held",
        /// It is switched off.
        Offline = "offline",
    }
}

/// All cores, and all claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cores {
    /// The cores, by node and then by their lowest thread.
    pub cores: Vec<Core>,
    /// The live claims, in the order in which they were taken.
    pub claims: Vec<Claim>,
}

/// A core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    /// Its node.
    pub node: u32,
    /// What it does. Whoever looks does not count, so that one core more may be free than by the
    /// status.
    pub state: CoreState,
    /// Its hardware threads, in ascending order, all that were ever seen.
    pub cpus: Vec<Cpu>,
}

/// A hardware thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// The kernel's number of it.
    pub cpu: u32,
    /// What it does.
    pub state: CpuState,
    /// The rule of the claim, if it is held and the policy still has that rule.
    pub rule: Option<String>,
    /// The process that runs, if it is held.
    pub pid: Option<u32>,
}

/// A claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its rule, if the policy still has that.
    pub rule: Option<String>,
    /// The process that it goes with.
    pub pid: u32,
    /// The thread that it goes with; the same number if it is the process.
    pub tid: u32,
    /// The name of that thread.
    pub comm: String,
    /// How many cores it holds of which nodes.
    pub holds: Vec<Held>,
}

/// Cores of a claim on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The node.
    pub node: u32,
    /// How many.
    pub cores: u32,
}
