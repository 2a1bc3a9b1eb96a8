// SPDX-License-Identifier: GPL-2.0-only
//! The one binary: arguments → one function per subcommand.

fn main() -> std::process::ExitCode {
    coregate::cli::main()
}
