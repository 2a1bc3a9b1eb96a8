// SPDX-License-Identifier: GPL-2.0-only
//! The skeletons that `build.rs` generates.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_imports,
    dead_code,
    clippy::all,
    clippy::restriction
)]

macro_rules! skeletons {
    ($($name:ident)*) => {$(
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".skel.rs"));
        }
    )*};
}

skeletons! { bare denier idle_smtmask oracle schedulers switches unguarded }
