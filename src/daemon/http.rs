// SPDX-License-Identifier: GPL-2.0-only
//! As much of HTTP as Prometheus needs to scrape: `GET /metrics`, one answer a connection.

use super::clients::{Peer, Reply, Speaker, TurnedAway, count};
use crate::report::metrics::CONTENT_TYPE;

/// The longest request, and the most headers of one. Prometheus sends half a dozen.
const MAX_REQUEST: usize = 8192;
const MAX_HEADERS: usize = 64;

/// Who answers scrapes, with a text or with why there is none.
pub(super) struct Scrapes<'a, F> {
    pub(super) text: F,
    pub(super) turned_away: &'a TurnedAway,
}

impl<F: FnMut() -> Result<String, String>> Speaker for Scrapes<'_, F> {
    fn answer(&mut self, peer: Peer, heard: &[u8], _: usize) -> Option<Reply> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(heard);
        Some(match parsed {
            Ok(status) if status.is_partial() && heard.len() <= MAX_REQUEST => return None,
            Ok(status) if status.is_partial() => too_large(),
            Err(httparse::Error::TooManyHeaders) => too_large(),
            Err(error) => reply("400 Bad Request", "", &format!("{error}\n")),
            Ok(_) => {
                let path = request.path.unwrap_or_default();
                let path = path.split('?').next().unwrap_or_default();
                self.resource(peer, request.method.unwrap_or_default(), path)
            }
        })
    }

    fn too_many(&self) -> Reply {
        reply("503 Service Unavailable", "", "too many clients\n")
    }
}

impl<F: FnMut() -> Result<String, String>> Scrapes<'_, F> {
    fn resource(&mut self, peer: Peer, method: &str, path: &str) -> Reply {
        if let Peer::Stranger(_) = peer {
            count(&self.turned_away.refused);
            return reply("403 Forbidden", "", "only root and its readers may ask\n");
        }
        match (path, method) {
            ("/metrics", "GET") => match (self.text)() {
                Ok(text) => reply("200 OK", &content_type(CONTENT_TYPE), &text),
                Err(why) => reply("500 Internal Server Error", "", &format!("{why}\n")),
            },
            ("/metrics", _) => reply("405 Method Not Allowed", "Allow: GET\r\n", ""),
            _ => reply("404 Not Found", "", "there is /metrics\n"),
        }
    }
}

fn too_large() -> Reply {
    reply("431 Request Header Fields Too Large", "", "")
}

fn content_type(value: &str) -> String {
    format!("Content-Type: {value}\r\n")
}

/// An answer with these lines more in its head.
fn reply(status: &str, head: &str, body: &str) -> Reply {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\n{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    Reply {
        bytes: text.into_bytes(),
        ..Reply::default()
    }
}

#[cfg(test)]
mod tests;
