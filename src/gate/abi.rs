// SPDX-License-Identifier: GPL-2.0-only
//! The types of `bpf/abi.h` as bytes: keys and values of maps, records of the ring buffer.

use plain::Plain;

pub use super::skel::types::{
    action, core, counters, effect, event, exe_key, failures, hook, launch_key, limits, mode, node,
    rule, settings, source, survey, verdict,
};

/// Says that a type has no padding and no invalid bit pattern, and how many bytes it has.
macro_rules! plain {
    ($($name:ident: $bytes:literal),* $(,)?) => {$(
        // SAFETY: the type is generated from bpf/abi.h, where every field is an integer, an
        // array of integers, or an enum that is generated as a wrapped u32; padding would
        // make it larger than the size asserted here and there.
        unsafe impl Plain for $name {}
        const _: () = assert!(size_of::<$name>() == $bytes);
    )*};
}

plain! {
    core: 36,
    counters: 40,
    event: 352,
    exe_key: 256,
    launch_key: 8,
    node: 8,
    rule: 16,
    survey: 32,
}

/// The bytes of a value, in this machine's order.
pub fn bytes<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: a Plain type may be read as bytes; the slice lives as long as the value.
    unsafe { plain::as_bytes(value) }
}

/// A copy of the value that stands at the start of `bytes`; `None` if they are too few.
pub fn read<T: Plain + Copy + Default>(bytes: &[u8]) -> Option<T> {
    let mut value = T::default();
    value.copy_from_bytes(bytes).ok()?;
    Some(value)
}

/// The text in a NUL-padded field, with what is not UTF-8 replaced.
pub fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}
