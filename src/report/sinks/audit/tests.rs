// SPDX-License-Identifier: GPL-2.0-only
use super::super::tests::event;
use super::*;

#[test]
fn a_record_is_one_that_audit_reads() {
    let record = String::from_utf8(record(&event())).unwrap();
    assert_eq!(
        record,
        "op=coregate-launch rule=\"cache\" verdict=\"deny\" effect=\"denied\" hook=\"exec\" \
         opid=117 ouid=110 comm=610A62225D272063 exe=\"/usr/bin/redis-server\" \
         unit=\"redis.service\" errno=\"EAGAIN\" mode=\"enforce\" generation=1 id=17 \
         hostname=? addr=? terminal=? res=failed\0"
    );
    for (name, ..) in FIELDS {
        assert!(
            event().fields().iter().any(|(field, _)| field == name),
            "{name}"
        );
    }
}

#[test]
fn nothing_forges_a_field() {
    for (value, expected) in [
        ("sh", "\"sh\""),
        // Without quotes it would be read as hexadecimal.
        ("12", "\"12\""),
        ("", "\"\""),
        ("a b", "612062"),
        ("a'b", "612762"),
        ("é", "C3A9"),
    ] {
        assert_eq!(encoded(value), expected);
    }
}

#[test]
fn a_message_and_its_answer() {
    let message = message(7, b"text\0");
    assert_eq!(message.len(), 21);
    assert_eq!(message[..4], 21_u32.to_ne_bytes());
    assert_eq!(message[16..], *b"text\0");

    let answer = |kind: i32, error: i32| {
        let mut answer = message.clone();
        answer[4..6].copy_from_slice(&(kind as u16).to_ne_bytes());
        answer.truncate(HEADER);
        answer.extend(error.to_ne_bytes());
        outcome(&answer)
    };
    assert_eq!(answer(NLMSG_ERROR, 0), Some((7, 0)));
    assert_eq!(answer(NLMSG_ERROR, -1), Some((7, -1)));
    assert_eq!(answer(1, 0), None);
    assert_eq!(outcome(b"short"), None);
}
