// SPDX-License-Identifier: GPL-2.0-only
//! What is not the daemon's, and goes on when it ends: a section of the gate's object that is pinned.
//!
//! It is read and written by its map: libbpf maps the memory of a section only when it made the map
//! (bpf_object__populate_internal_map()), not when that is an earlier gate's.

use std::mem::offset_of;

use libbpf_rs::{MapCore, MapHandle};

use super::{Error, abi, entry, pins, skel};

/// That of the gate that stands; `None`: none does, or its form is another.
pub fn standing() -> Option<MapHandle> {
    let map = pins::open(pins::KEPT, pins::SECTION)?;
    (map.value_size() as usize == size_of::<skel::types::data_kept>()).then_some(map)
}

/// All of it, as it is now.
pub(super) fn read(section: &dyn MapCore) -> Result<abi::kept, Error> {
    let section = entry(section, 0)?;
    let kept = section
        .as_deref()
        .and_then(|bytes| bytes.get(offset_of!(skel::types::data_kept, kept)..));
    kept.and_then(abi::read).ok_or(Error::Form("kept"))
}

/// Writes a part of it, which begins at this byte of [`abi::kept`].
pub(super) fn write(section: &dyn MapCore, offset: usize, bytes: &[u8]) -> Result<(), Error> {
    let place = offset_of!(skel::types::data_kept, kept) + offset;
    abi::write(section.as_fd(), place, bytes).map_err(|cause| Error::Kernel {
        what: "write what is kept".into(),
        said: String::new(),
        cause: cause.into(),
    })
}
