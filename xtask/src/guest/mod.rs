// SPDX-License-Identifier: GPL-2.0-only
//! Guests: Debian's kernels in QEMU with a small root file system.

pub(crate) mod image;
pub(crate) mod qemu;
pub(crate) mod topology;

pub(crate) use image::Image;
pub(crate) use qemu::{Guest, Limits};
pub(crate) use topology::Topology;
