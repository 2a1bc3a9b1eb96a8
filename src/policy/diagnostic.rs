// SPDX-License-Identifier: GPL-2.0-only
//! What is wrong with a policy, and where: collected while it is read, and
//! shown with file, line, column, the line itself and a caret.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{
    AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str as printable,
};
use serde::Serialize;

use super::{Origin, Source};

/// The most errors that are shown as text. A file that is wrong throughout is
/// mended from its top.
const MAX_SHOWN: usize = 20;

/// The longest message, in characters. Messages quote the policy, and a key or
/// a string in it may be as long as the file.
const MAX_MESSAGE: usize = 400;

/// One mistake in a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file, as it was named to the parser.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// What is wrong, and why it is.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// The line itself, without its end.
    #[serde(skip)]
    source: String,
    /// The bytes of `source` to put the caret under.
    #[serde(skip)]
    marked: Range<usize>,
}

/// Everything that is wrong with one policy; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub(super) Vec<Diagnostic>);

impl Errors {
    /// The mistakes, source by source, in the order in which they stand in each.
    pub fn list(&self) -> &[Diagnostic] {
        &self.0
    }

    /// The mistakes as text, the first 20 of them; `styled` adds terminal
    /// colours. Control characters of the file are made visible.
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut text = String::new();
        for diagnostic in self.0.iter().take(MAX_SHOWN) {
            text += &renderer.render(&[diagnostic.group()]);
            text += "\n\n";
        }
        text.truncate(text.trim_end().len());
        let more = self.0.len().saturating_sub(MAX_SHOWN);
        if more > 0 {
            let s = if more == 1 { "" } else { "s" };
            text += &format!("\n\nand {more} more error{s}");
        }
        text
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Errors {}

/// In one line, for logs.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            message,
            hint,
            ..
        } = self;
        write!(f, "{file}:{line}:{column}: {message}; {hint}")
    }
}

impl Diagnostic {
    fn group(&self) -> Group<'_> {
        let mark = AnnotationKind::Primary.span(self.marked.clone());
        let line = Snippet::source(self.source.as_str())
            .line_start(self.line)
            .path(self.file.as_str());
        Level::ERROR
            .primary_title(self.message.as_str())
            .element(line.annotation(mark))
            .element(Level::HELP.message(printable(&self.hint)))
    }
}

/// A source that is being read, and the mistakes found in it so far.
pub(super) struct Report<'t> {
    file: Arc<str>,
    text: &'t str,
    /// Where each line begins, in bytes; ascending, and the first is 0.
    line_starts: Vec<usize>,
    errors: Vec<(Range<usize>, String, String)>,
}

impl<'t> Report<'t> {
    pub(super) fn new(source: &'t Source) -> Self {
        let text = source.text.as_str();
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = [0]
            .into_iter()
            .chain(after_breaks.map(|(at, _)| at + 1))
            .collect();
        Self {
            file: source.name.as_str().into(),
            text,
            line_starts,
            errors: Vec::new(),
        }
    }

    /// Notes a mistake at the bytes `at`: what is wrong and why, and what to
    /// do about it.
    pub(super) fn error(
        &mut self,
        at: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
            message.truncate(end);
            message += "...";
        }
        self.errors.push((at, message, hint.into()));
    }

    /// The place of the byte `at`.
    pub(super) fn origin(&self, at: usize) -> Origin {
        Origin {
            file: self.file.clone(),
            line: self.line(at),
        }
    }

    /// The line, from 1, that the byte `at` stands in.
    fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    /// The mistakes, in the order in which they stand in the text.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        let mut list: Vec<_> = self
            .errors
            .iter()
            .map(|(at, message, hint)| self.place(at.clone(), message, hint))
            .collect();
        list.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        list
    }

    fn place(&self, at: Range<usize>, message: &str, hint: &str) -> Diagnostic {
        let line = self.line(at.start);
        let start = self.line_starts[line - 1];
        let source = self.text[start..].lines().next().unwrap_or_default();
        // A value may go over several lines: the caret stays in the first.
        let marked = floor(source, at.start - start)..floor(source, at.end - start);
        Diagnostic {
            file: self.file.to_string(),
            line,
            column: source[..marked.start].chars().count() + 1,
            message: message.into(),
            hint: hint.into(),
            source: source.into(),
            marked,
        }
    }
}

/// The last character boundary of `line` that is not after the byte `at`.
fn floor(line: &str, at: usize) -> usize {
    let at = at.min(line.len());
    (0..=at)
        .rev()
        .find(|at| line.is_char_boundary(*at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
