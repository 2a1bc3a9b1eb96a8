// SPDX-License-Identifier: GPL-2.0-only
//! What this kernel can do: the facts, and apart from them what follows.
//!
//! The facts are read, never inferred from a version. What they promise is
//! proven only by loading the gate; `doctor` says what stands in its way.

#![forbid(unsafe_code)]

mod facts;
mod idle_source;
mod kfuncs;
mod needs;
mod parameter;

pub use facts::{Btf, Fact, Facts, Lockdown, Privileges, SchedExt, Symbols};
pub use idle_source::{IdleSource, Source, idle_source};
pub use kfuncs::{Kfunc, refused, takes};
pub use needs::{Lack, Need, Required, Status, needs, required};
pub use parameter::Parameter;
