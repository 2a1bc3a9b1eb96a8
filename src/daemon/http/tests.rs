// SPDX-License-Identifier: GPL-2.0-only
use super::*;

/// What is answered to this; empty: more is waited for.
fn told(peer: Peer, heard: &[u8]) -> String {
    let turned_away = &TurnedAway::default();
    let text = || Ok("up 1\n".to_owned());
    let mut scrapes = Scrapes { text, turned_away };
    let reply = scrapes.answer(peer, heard, 0);
    reply.map_or_else(String::new, |reply| {
        String::from_utf8(reply.bytes).expect("text")
    })
}

fn status(heard: &[u8]) -> String {
    let told = told(Peer::Anybody, heard);
    told.split("\r\n").next().unwrap_or_default().into()
}

#[test]
fn metrics_are_had_by_get() {
    let request = b"GET /metrics?x=1 HTTP/1.1\r\nHost: here\r\nAccept: */*\r\n\r\n";
    assert_eq!(
        told(Peer::Anybody, request),
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: 5\r\nConnection: close\r\n\r\nup 1\n"
    );
    for end in 0..request.len() {
        assert_eq!(told(Peer::Anybody, &request[..end]), "");
    }
    assert_eq!(status(b"GET /metrics HTTP/1.0\r\n\r\n"), "HTTP/1.1 200 OK");
}

#[test]
fn nothing_else_is() {
    let long = [b"GET /".as_slice(), &[b'x'; MAX_REQUEST]].concat();
    let many = [
        b"GET /metrics HTTP/1.1\r\n".to_vec(),
        b"A: b\r\n".repeat(MAX_HEADERS + 1),
        b"\r\n".to_vec(),
    ]
    .concat();
    for (request, expected) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "404 Not Found"),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"{\"ask\":\"status\"}\n", "400 Bad Request"),
        (b"\0\0\0\0", "400 Bad Request"),
        (b"GET /metrics HTTP/9.9\r\n\r\n", "400 Bad Request"),
        (&long, "431 Request Header Fields Too Large"),
        (&many, "431 Request Header Fields Too Large"),
    ] {
        assert_eq!(status(request), format!("HTTP/1.1 {expected}"));
    }
}

#[test]
fn a_stranger_at_the_socket_is_refused() {
    let request = b"GET /metrics HTTP/1.1\r\n\r\n";
    assert!(told(Peer::Stranger(1000), request).starts_with("HTTP/1.1 403 "));
    assert!(told(Peer::Reader(1000), request).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_failure_is_told() {
    let turned_away = &TurnedAway::default();
    let text = || Err("the gate is gone".to_owned());
    let mut scrapes = Scrapes { text, turned_away };
    let reply = scrapes.resource(Peer::Anybody, "GET", "/metrics");
    let told = String::from_utf8(reply.bytes).expect("text");
    assert!(
        told.starts_with("HTTP/1.1 500 ") && told.ends_with("\r\n\r\nthe gate is gone\n"),
        "{told}"
    );
}
