// SPDX-License-Identifier: GPL-2.0-only
use regex_lite::Regex;

use super::super::Severity;
use super::super::tests::event;
use super::*;

fn text(record: Vec<u8>) -> String {
    String::from_utf8(record).unwrap()
}

#[test]
fn as_syslog_3_has_it() {
    let record = text(rfc3164(&Line::Message(Severity::LOG_NOTICE, "hello")));
    let form = Regex::new(r"^<29>\w{3} [\d ]\d \d\d:\d\d:\d\d coregate\[\d+\]: hello$").unwrap();
    assert!(form.is_match(&record), "{record}");
    let record = text(rfc3164(&Line::Event(&event())));
    assert!(record.starts_with("<28>"), "{record}");
    assert!(
        record.contains("]: denied rule=cache verdict=deny "),
        "{record}"
    );
    assert!(!record.contains('\n'), "{record}");
}

#[test]
fn as_rfc_5424_has_it() {
    let record = text(rfc5424(&Line::Message(Severity::LOG_NOTICE, "hello")));
    let head = r"1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z \S+ coregate \d+";
    let form = Regex::new(&format!("^<29>{head} 0 - hello$")).unwrap();
    assert!(form.is_match(&record), "{record}");

    let record = text(rfc5424(&Line::Event(&event())));
    let form = format!(
        r#"^<28>{head} 1 \[coregate@32473( [a-z_]+="([^"\\\]]|\\["\\\]])*")+\] denied rule=cache "#
    );
    assert!(Regex::new(&form).unwrap().is_match(&record), "{record}");
    assert!(record.contains(r#" rule="cache""#), "{record}");
    // What would end a value is escaped, and what would end a line.
    assert!(record.contains(r#" comm="a\\nb\"\]' c""#), "{record}");
    assert!(!record.contains('\n'), "{record}");
}
