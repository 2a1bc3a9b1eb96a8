// SPDX-License-Identifier: GPL-2.0-only
//! Types generated from the headers of `bpf/` as bytes: keys and values of maps, records of
//! ring buffers.

use plain::Plain;

/// Says that a generated type has no padding and no invalid bit pattern, and how many bytes
/// it has.
macro_rules! plain_types {
    ($($name:ty: $bytes:literal),* $(,)?) => {$(
        // SAFETY: the type is generated from a header of bpf/, where every field is an
        // integer, an array of integers, or an enum that is generated as a wrapped u32;
        // padding would make it larger than the size asserted here and there.
        unsafe impl plain::Plain for $name {}
        const _: () = assert!(size_of::<$name>() == $bytes);
    )*};
}
pub(crate) use plain_types;

/// The bytes of a value, in this machine's order.
pub(crate) fn bytes<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: a Plain type may be read as bytes; the slice lives as long as the value.
    unsafe { plain::as_bytes(value) }
}

/// A copy of the value that stands at the start of `bytes`; `None` if they are too few.
pub(crate) fn read<T: Plain + Copy + Default>(bytes: &[u8]) -> Option<T> {
    let mut value = T::default();
    value.copy_from_bytes(bytes).ok()?;
    Some(value)
}

/// A copy of a value in a mapped section, which the kernel writes at any time.
pub(crate) fn live<T: Plain + Copy>(value: &T) -> T {
    // SAFETY: the reference is valid and aligned, and whatever stands there is a value of a
    // Plain type. Volatile, so that nothing is assumed about what stood there before.
    unsafe { std::ptr::read_volatile(value) }
}
