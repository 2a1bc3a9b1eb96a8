// SPDX-License-Identifier: GPL-2.0-only
//! The skeleton of `bpf/gate.bpf.c` that `build.rs` generates, types of `bpf/abi.h`
//! included.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::restriction)]

include!(concat!(env!("OUT_DIR"), "/gate.skel.rs"));
