// SPDX-License-Identifier: GPL-2.0-only
//! `coregate doctor`: can the gate work on this machine, and if not, what is
//! to be done?

use std::path::Path;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::{Exit, Result, output};
use crate::companion;
use crate::kernel::{
    Fact, Facts, IdleSource, Need, Required, SchedExt, Source, Status, Symbols, idle_source, needs,
};

/// Say whether the gate can work on this machine, and what to do if not
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the gate can work here, 1 for want of privileges or of \
                        something that could not be found out it may not, 3 this kernel lacks \
                        what is needed."
)]
pub(super) struct Args {
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// The width of the text; commands to be typed stay whole.
const WIDTH: usize = 80;

/// The width of the status column, and with it the indent of a remedy.
const INDENT: &str = "         ";

#[derive(Serialize)]
struct Answer {
    ok: bool,
    exit: u8,
    kernel: Option<String>,
    needs: Vec<Need>,
    sched_ext: Option<SchedExt>,
    idle_source: IdleSource,
}

/// Runs `coregate doctor`.
pub(super) fn run(args: &Args) -> Result {
    let root = Path::new("/");
    let (facts, symbols) = (Facts::gather(root), Symbols::read(root));
    let mut needs = needs(&facts, &symbols, &companion::suits_kernel());
    let exit = exit(&needs);
    let idle_source = idle_source(&facts, &symbols);
    if args.json {
        output::json(&Answer {
            ok: exit == Exit::Ok,
            exit: exit as u8,
            kernel: facts.release.ok(),
            needs,
            sched_ext: facts.sched_ext,
            idle_source,
        })?;
        return Ok(exit);
    }
    needs.sort_by_key(|need| need.status);
    let mut text: String = needs.iter().map(paragraph).collect();
    text += &format!(
        "\n{}\n{}",
        source_line(&idle_source),
        conclusion(exit, &needs, &facts.release)
    );
    output::stdout(&text)?;
    Ok(exit)
}

/// Whether the gate can work with these needs, as an exit code.
pub(super) fn exit(needs: &[Need]) -> Exit {
    if needs
        .iter()
        .any(|need| need.blocks() && need.required == Required::Kernel)
    {
        Exit::Kernel
    } else if needs.iter().any(Need::is_lacking) {
        Exit::Failed
    } else {
        Exit::Ok
    }
}

fn paragraph(need: &Need) -> String {
    let (word, style) = match need.status {
        Status::Missing => ("missing", AnsiColor::Red.on_default().bold()),
        Status::Unknown => ("unknown", AnsiColor::Yellow.on_default()),
        Status::Limited => ("limited", AnsiColor::Yellow.on_default()),
        Status::Ok => ("ok", Style::new()),
    };
    let first = format!("{:<17}", need.title);
    let column = INDENT.len() + first.len();
    let found = wrap(&need.found, column).join(&format!("\n{:column$}", ""));
    let mut text = format!("{style}{word:<9}{style:#}{first}{found}\n");
    for line in need.remedy.iter().flat_map(|remedy| remedy.lines()) {
        let lines = if line.starts_with(' ') {
            vec![line.into()]
        } else {
            wrap(line, INDENT.len())
        };
        for line in lines {
            text += &format!("{INDENT}{line}\n");
        }
    }
    text
}

/// Breaks `text` where it would pass the width, given what stands before it.
fn wrap(text: &str, column: usize) -> Vec<String> {
    textwrap::wrap(text, WIDTH - column)
        .into_iter()
        .map(Into::into)
        .collect()
}

fn source_line(source: &IdleSource) -> String {
    let name = |source| match source {
        Source::Node => "idle mask by node",
        Source::Flat => "idle mask of the whole machine",
        Source::Runqueue => "scan of the run queues",
    };
    let now = source.now.map_or("not known", name);
    let text = format!(
        "Idle source: now {now}, at best {}; {}.",
        name(source.best),
        source.reason
    );
    wrap(&text, 0).join("\n")
}

fn conclusion(exit: Exit, needs: &[Need], release: &Fact<String>) -> String {
    let kernel = match release {
        Ok(release) => format!("Kernel {release}"),
        Err(_) => "This kernel".into(),
    };
    let text = match exit {
        Exit::Ok => "the gate can work here.",
        Exit::Kernel => "the gate cannot work here until what is missing is put right.",
        _ if needs.iter().any(Need::blocks) => "the gate cannot work with these privileges.",
        _ => "whether the gate can work is not known until the unknown is found out.",
    };
    wrap(&format!("{kernel}: {text}"), 0).join("\n")
}
