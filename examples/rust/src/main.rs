//! Deposits the payments of a file, each exactly once, and learns what happened: from the event
//! log, and from webhooks. `examples/README.md` names the rules behind it.

mod follow;
mod journal;
mod pay;
mod receive;

use std::{env, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use client::Client;

const USAGE: &str = "\
usage:
  pay-in pay PAYMENTS JOURNAL     deposit the payments of a CSV file with the columns reference,
                                  account, amount and currency. After a crash or an error, run the
                                  same command again: no payment is made twice
  pay-in follow CURSOR            print each event as a line of JSON, from the stored cursor on
  pay-in receive ADDRESS INBOX    receive webhooks at http://ADDRESS, and keep each event once

PASSBOOK_URL is the address of the API. PASSBOOK_TOKEN is a token with the scopes deposits:write and
accounts:read, for follow with events:read. PASSBOOK_WEBHOOK_KEY is the secret or the public key of
the webhook endpoint; during a rotation both, with a space between them.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    // Tokens and secrets come from the environment: other users can read arguments.
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["pay", payments, journal] => {
            pay::run(&api()?, Path::new(payments), Path::new(journal)).await
        }
        ["follow", cursor] => follow::run(&api()?, Path::new(cursor)).await,
        ["receive", address, inbox] => {
            receive::run(&variable("PASSBOOK_WEBHOOK_KEY")?, address, Path::new(inbox)).await
        }
        _ => bail!(USAGE),
    }
}

fn api() -> Result<Client> {
    Ok(Client::new(&variable("PASSBOOK_URL")?, &variable("PASSBOOK_TOKEN")?)?)
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("set {name}"))
}
