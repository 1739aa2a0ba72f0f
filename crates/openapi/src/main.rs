//! `openapi write` makes `docs/openapi.json` from the code of the services, and
//! `docs/reference.html` from the document. `openapi check` fails if a file is not current. The
//! account-service serves both.

mod complete;
mod document;
mod problems;
mod reference;
mod webhooks;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The folder of the generated files.
    #[arg(long, default_value = "docs")]
    dir: PathBuf,
}

#[derive(Subcommand, Clone, Copy)]
enum Command {
    /// Write the files.
    Write,
    /// Fail if a file is not current.
    Check,
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { command, dir } = Arguments::parse();
    let document = document::document()?;
    let mut json = serde_json::to_string_pretty(&document)?;
    json.push('\n');
    let mut status = ExitCode::SUCCESS;
    for (name, text) in [("openapi.json", json), ("reference.html", reference::page(&document))] {
        let path = dir.join(name);
        match command {
            Command::Write => {
                fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            }
            Command::Check if fs::read_to_string(&path).ok() != Some(text) => {
                eprintln!(
                    "{} differs from the code: run `make prepare` and commit it",
                    path.display()
                );
                status = ExitCode::FAILURE;
            }
            Command::Check => {}
        }
    }
    Ok(status)
}
