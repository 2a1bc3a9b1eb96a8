// SPDX-License-Identifier: GPL-2.0-only
//! Records of the kernel's audit.
//!
//! The kernel takes a text from a process with `CAP_AUDIT_WRITE` in the first user namespace, puts
//! who sent it before it, and passes it to auditd, or to its own log if there is none. While audit
//! is switched off it takes the text, and drops it (kernel/audit.c, `audit_receive_msg()`).

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc::{NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::queue::Destination;
use crate::policy::Effect;
use crate::report::Event;

/// The kind of record: free text of a trusted program (linux/audit.h has the range, libaudit the
/// name `TRUSTED_APP`).
const AUDIT_TRUSTED_APP: u16 = 1121;

/// The bytes of a `struct nlmsghdr`.
const HEADER: usize = 16;

/// The values of a verdict that a record has, their names there, and whether they are text. Those
/// that the kernel puts before it are the daemon's own, hence `opid` and `ouid`. All that a user can
/// make long is left out: a record has 8 KB at most.
const FIELDS: &[(&str, &str, bool)] = &[
    ("rule", "rule", true),
    ("verdict", "verdict", true),
    ("effect", "effect", true),
    ("hook", "hook", true),
    ("pid", "opid", false),
    ("uid", "ouid", false),
    ("comm", "comm", true),
    ("exe", "exe", true),
    ("unit", "unit", true),
    ("errno", "errno", true),
    ("mode", "mode", true),
    ("generation", "generation", false),
    ("id", "id", false),
];

/// A verdict as the text of a record, with the NUL that ends it.
pub(super) fn record(event: &Event) -> Vec<u8> {
    let fields = event.fields();
    let mut text = String::from("op=coregate-launch");
    for (name, written, is_text) in FIELDS {
        let value = fields.iter().find(|(field, _)| field == name);
        text += &match value {
            Some((_, value)) if *is_text => format!(" {written}={}", encoded(value)),
            Some((_, value)) => format!(" {written}={value}"),
            None => continue,
        };
    }
    let res = match event.effect {
        Effect::Denied => "failed",
        Effect::Admitted | Effect::Logged => "success",
    };
    text += &format!(" hostname=? addr=? terminal=? res={res}\0");
    text.into()
}

/// As the kernel writes what it does not trust (`audit_log_untrustedstring()`): in hexadecimal if it
/// has characters that could forge another field. The kernel puts the text between `'`.
fn encoded(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"'".contains(&b);
    if value.bytes().all(plain) {
        return format!("\"{value}\"");
    }
    value.bytes().map(|b| format!("{b:02X}")).collect()
}

/// A sender to the audit of the kernel.
#[derive(Default)]
pub(super) struct Audit {
    socket: Option<OwnedFd>,
    sequence: u32,
}

impl Audit {
    fn connect() -> io::Result<OwnedFd> {
        let netlink = AddressFamily::Netlink;
        let protocol = SockProtocol::NetlinkAudit;
        let socket = socket(netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // The answer is there when the text was sent.
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(1))?;
        Ok(socket)
    }

    fn try_write(&mut self, text: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => Self::connect()?,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let message = message(self.sequence, text);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(socket.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
        let mut answer = [0; 256];
        let sequence = loop {
            let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            let (sequence, error) = outcome(&answer[..length]).ok_or(ErrorKind::InvalidData)?;
            if sequence == self.sequence {
                break error;
            }
        };
        self.socket = Some(socket);
        match sequence {
            0 => Ok(()),
            error => Err(Errno::from_raw(-error).into()),
        }
    }
}

impl Destination for Audit {
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        self.try_write(record)
    }
}

/// A message of netlink(7) with this text, which asks for an answer.
fn message(sequence: u32, text: &[u8]) -> Vec<u8> {
    let length = (HEADER + text.len()) as u32;
    let flags = (NLM_F_REQUEST | NLM_F_ACK) as u16;
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(AUDIT_TRUSTED_APP.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(text);
    message
}

/// The number of the message that an answer is for, and the error, negative, or 0. `None`: it is
/// no answer.
fn outcome(answer: &[u8]) -> Option<(u32, i32)> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(answer.get(8..12)?.try_into().ok()?);
    let error = i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?);
    (i32::from(kind) == NLMSG_ERROR).then_some((sequence, error))
}

#[cfg(test)]
mod tests;
