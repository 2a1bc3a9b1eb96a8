// SPDX-License-Identifier: GPL-2.0-only
use std::collections::BTreeMap;

use super::super::Severity;
use super::super::tests::event;
use super::*;
use crate::report::Event;

/// As the journal reads it.
fn fields(mut record: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !record.is_empty() {
        let end = record.iter().position(|b| *b == b'\n').unwrap();
        let (line, rest) = record.split_at(end);
        let (name, value, rest) = match line.iter().position(|b| *b == b'=') {
            Some(at) => (&line[..at], &line[at + 1..], rest),
            None => {
                let (length, rest) = rest[1..].split_at(8);
                let length = u64::from_le_bytes(length.try_into().unwrap());
                let (value, rest) = rest.split_at(length as usize);
                (line, value, rest)
            }
        };
        record = rest.strip_prefix(b"\n").unwrap();
        let text = |bytes| String::from_utf8(Vec::from(bytes)).unwrap();
        assert_eq!(fields.insert(text(name), text(value)), None);
    }
    fields
}

#[test]
fn a_message_has_its_severity_and_who_said_it() {
    let fields = fields(&record(&Line::Message(Severity::LOG_ERR, "one\ntwo")));
    let expected = [
        ("MESSAGE", "one\ntwo"),
        ("PRIORITY", "3"),
        ("SYSLOG_FACILITY", "3"),
        ("SYSLOG_IDENTIFIER", "coregate"),
    ];
    let expected = expected.map(|(name, value)| (name.into(), value.into()));
    assert_eq!(fields, BTreeMap::from(expected));
}

#[test]
fn a_verdict_has_a_field_for_each_value() {
    let event = event();
    let fields = fields(&record(&Line::Event(&event)));
    assert_eq!(fields["PRIORITY"], "4");
    assert_eq!(fields["MESSAGE"], event.to_string());
    assert_eq!(fields["COREGATE_RULE"], "cache");
    assert_eq!(fields["COREGATE_CORES_FREE"], "0");
    // It forges no field.
    assert_eq!(fields["COREGATE_COMM"], "a\nb\"]' c");
    assert_eq!(fields.len(), 4 + event.fields().len());
    // What the journal takes as a name (its journal_field_valid()).
    for name in fields.keys() {
        let fit = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        assert!(name.len() <= 64 && name.bytes().all(fit), "{name}");
    }
}

/// A long one fits into a datagram: paths of events have 255 bytes, arguments 127, names of
/// cgroups 255, of which 31 are looked at.
#[test]
fn the_longest_verdict_fits() {
    let longest = "\u{1}".repeat(255);
    let event = Event {
        exe: longest.clone(),
        parent: Some(longest.clone()),
        argv: Some(vec!["\u{1}".repeat(127); 8]),
        groups: Some(vec![u32::MAX; 64]),
        cgroup: Some(format!("/{longest}").repeat(31)),
        ..event()
    };
    let record = record(&Line::Event(&event));
    assert!(record.len() < 30_000, "{}", record.len());
}
