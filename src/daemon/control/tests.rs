// SPDX-License-Identifier: GPL-2.0-only
use super::*;
use crate::daemon::Turned;

const READER: Peer = Peer::Reader(1000);
const STRANGER: Peer = Peer::Stranger(1000);

fn answer(question: Question) -> Reply {
    match question {
        Question::Promote => Reply::one(Ok(Turned {
            generation: 7,
            mode: "observe".into(),
            rules: 1,
        })),
        Question::Rehearse { sources } => Reply::one(Ok(sources.len())),
        Question::Status => Reply::one(Ok("status")),
        _ => Reply::one(Err::<(), _>(Refusal::failed("no"))),
    }
}

/// What is answered to this, in lines.
fn told(peer: Peer, heard: &str) -> Option<String> {
    let turned_away = &TurnedAway::default();
    let mut questions = Questions {
        answer,
        turned_away,
    };
    let reply = questions.answer(peer, heard.as_bytes(), 0)?;
    Some(String::from_utf8(reply.bytes).expect("text"))
}

#[test]
fn a_question_has_its_answer() {
    let expected = "{\"answer\":{\"generation\":7,\"mode\":\"observe\",\"rules\":1}}\n";
    let found = told(Peer::Root, "{\"ask\":\"promote\"}\n");
    assert_eq!(found.as_deref(), Some(expected));
    assert_eq!(told(Peer::Root, "{\"ask\":\"promote\"}"), None);
}

#[test]
fn what_is_no_question_is_refused() {
    for garbage in [
        "\n",
        "garbage\n",
        "{\"ask\":\"all\"}\n",
        "{\"ask\":\"drop\",\"x\":1}\n",
    ] {
        let line = told(Peer::Root, garbage).expect("an answer");
        assert!(
            line.starts_with("{\"error\":{\"message\":"),
            "{garbage:?}: {line}"
        );
    }
}

#[test]
fn only_root_changes_what_holds() {
    for (question, reads) in [
        ("{\"ask\":\"status\"}\n", true),
        ("{\"ask\":\"promote\"}\n", false),
        ("{\"ask\":\"reload\"}\n", false),
        ("{\"ask\":\"drop\"}\n", false),
        ("{\"ask\":\"rehearse\",\"sources\":[]}\n", false),
    ] {
        let may = |peer| {
            let told = told(peer, question).expect("an answer");
            !told.contains("only root")
        };
        assert!(may(Peer::Root), "{question}");
        assert_eq!(may(READER), reads, "{question}");
        assert!(!may(STRANGER) && !may(Peer::Anybody), "{question}");
    }
}

#[test]
fn only_root_may_ask_at_length() {
    let source = format!("{{\"name\":\"x\",\"text\":\"{}\"}}", "x".repeat(1 << 20));
    let question = format!("{{\"ask\":\"rehearse\",\"sources\":[{source}]}}\n");
    assert_eq!(
        told(Peer::Root, &question).as_deref(),
        Some("{\"answer\":1}\n")
    );
    for question in [&question, &question[..MAX_READERS_QUESTION + 1]] {
        let line = told(READER, question).expect("an answer");
        assert!(line.contains("longer than 4096 bytes"), "{line}");
    }
}
