// SPDX-License-Identifier: GPL-2.0-only
//! The skeleton of `bpf/companion.bpf.c` that `build.rs` generates, types of
//! `bpf/companion.h` included.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::restriction)]

include!(concat!(env!("OUT_DIR"), "/companion.skel.rs"));

/// The kernel's functions that the object calls.
pub(super) const KFUNCS: &[crate::kernel::Kfunc<'_>] =
    &include!(concat!(env!("OUT_DIR"), "/companion.kfuncs.rs"));
