// SPDX-License-Identifier: GPL-2.0-only
//! Types generated from the headers of `bpf/` as bytes: keys and values of maps, records of
//! ring buffers; and what else takes `unsafe`.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc::{
    self, M_MMAP_THRESHOLD, M_MXFAST, M_TRIM_THRESHOLD, TIOCOUTQ, gid_t, ioctl, malloc_trim,
    mallopt, socklen_t,
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::prctl::set_thp_disable;
use nix::sys::signal::{SigHandler, Signal};
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

/// The bytes of a value, or of all in a slice, in this machine's order.
pub(crate) fn bytes<T: Plain + ?Sized>(value: &T) -> &[u8] {
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

/// The bytes of memory that are taken by what was sent on a socket of this machine and not read yet.
pub(crate) fn unread(socket: BorrowedFd<'_>) -> io::Result<i32> {
    let mut bytes = 0;
    // SAFETY: the descriptor is open, and this request writes one int (unix(7), SIOCOUTQ).
    let result = unsafe { ioctl(socket.as_raw_fd(), TIOCOUTQ, &raw mut bytes) };
    Errno::result(result)?;
    Ok(bytes)
}

/// Lets memory go back to the system as soon as it is freed, for the whole life of the process: a C
/// library raises the size from which it does so with each large piece, and keeps small pieces apart,
/// so that they are never a large one again.
pub(crate) fn keep_little_memory() {
    const LARGE: i32 = 128 * 1024;
    // Of a huge page all is resident for the sake of a part. Where it is refused, more is.
    let _ = set_thp_disable(true);
    // SAFETY: it sets numbers (mallopt(3)); with values that it does not take, nothing happens.
    unsafe {
        mallopt(M_MMAP_THRESHOLD, LARGE);
        mallopt(M_TRIM_THRESHOLD, LARGE);
        mallopt(M_MXFAST, 0);
    }
}

/// Gives memory that was freed back to the system; a C library keeps it else wherever a piece near it
/// is in use.
pub(crate) fn give_back_memory() {
    // SAFETY: it touches only what is free (malloc_trim(3)). Whether there was any does not matter.
    unsafe { malloc_trim(0) };
}

/// Writes into the memory of an array that may be mapped, from its byte `offset` on.
pub(crate) fn write(map: impl AsFd, offset: usize, bytes: &[u8]) -> io::Result<()> {
    let Some(length) = NonZeroUsize::new(offset + bytes.len()) else {
        return Ok(());
    };
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the mapping is a new one, as long as what is written up to, and nobody else has its
    // address when it goes.
    unsafe {
        let at = mmap(None, length, protection, MapFlags::MAP_SHARED, map, 0)?;
        let to = at.cast::<u8>().add(offset);
        to.copy_from_nonoverlapping(std::ptr::NonNull::from(bytes).cast(), bytes.len());
        Ok(munmap(at, length.get())?)
    }
}

/// The supplementary groups of who connected, as they were then: `SO_PEERGROUPS` of the kernel's
/// net/core/sock.c, which says with `ERANGE` how many bytes they are.
pub(crate) fn peer_groups(stream: impl AsFd) -> io::Result<Vec<gid_t>> {
    let fd = stream.as_fd().as_raw_fd();
    let mut groups: Vec<gid_t> = vec![0; 64];
    loop {
        let mut bytes = size_of_val(&groups[..]) as socklen_t;
        // SAFETY: the kernel writes at most so many bytes into the buffer, each of which is valid in
        // a number, and then how many they were.
        let answer = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &mut bytes,
            )
        };
        let count = bytes as usize / size_of::<gid_t>();
        match Errno::result(answer) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Err(Errno::ERANGE) if count > groups.len() => groups.resize(count, 0),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether SIGPIPE was ignored when this process began: the runtime of Rust ignores it before `main`.
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_SIGPIPE: extern "C" fn() = note_sigpipe;

extern "C" fn note_sigpipe() {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: it only asks, into memory for the answer, which is read if there is one.
    unsafe {
        if libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr()) == 0 {
            let ignored = action.assume_init().sa_sigaction == libc::SIG_IGN;
            SIGPIPE_IGNORED.store(ignored, Ordering::Relaxed);
        }
    }
}

/// Does something with SIGPIPE as it was when this process began, such as to become another program.
pub(crate) fn with_first_sigpipe<T>(act: impl FnOnce() -> T) -> T {
    if SIGPIPE_IGNORED.load(Ordering::Relaxed) {
        return act();
    }
    // SAFETY: neither is a function of this process.
    let set = |handler| unsafe { nix::sys::signal::signal(Signal::SIGPIPE, handler) };
    let _ = set(SigHandler::SigDfl);
    let result = act();
    let _ = set(SigHandler::SigIgn);
    result
}
