//! The summary of a ready stack.

use std::path::Path;

use anyhow::Result;
use devstack::{StackFile, stack_dir};

use crate::output::{self, Output};

/// Prints addresses, processes and a first request to paste. For a stack in the background in
/// `detached_dir`, also the command to stop it.
///
/// # Errors
/// When stdout is closed.
pub(super) fn print(file: &StackFile, detached_dir: Option<&Path>, output: Output) -> Result<()> {
    if output == Output::Json {
        return output::json(file);
    }
    let addresses = [
        ("API", &file.api),
        ("NATS", &file.nats),
        ("NATS monitoring", &file.nats_monitor),
        ("account database", &file.databases.account),
        ("transaction database", &file.databases.transaction),
        ("report database", &file.databases.report),
    ];
    output::line("")?;
    output::table(
        &["ADDRESS", ""],
        addresses.map(|(name, url)| vec![name.to_owned(), url.to_owned()]),
    )?;
    output::line("")?;
    output::table(
        &["PROCESS", "PID", "HTTP", "ADMIN"],
        file.processes.iter().map(|process| {
            let url = |url: &Option<String>| url.clone().unwrap_or_default();
            vec![
                process.name.clone(),
                process.pid.to_string(),
                url(&process.http),
                url(&process.admin),
            ]
        }),
    )?;
    output::line(&format!(
        "
A teller's token, valid for 30 days:
{token}

Open an account:
curl -sS {api}/v1/accounts -H 'Content-Type: application/json' -d '{{\"currency\":\"KRW\"}}' \\
  -H 'Authorization: Bearer {token}'
",
        token = file.tokens.teller,
        api = file.api,
    ))?;
    output::line(&format!(
        "For load tests, use the account-service's replicas, as `passbook load` does: {replicas}
The API's address is a proxy, which takes processor time from them.
",
        replicas = account_replicas(file).join(" "),
    ))?;
    let Some(dir) = detached_dir else { return Ok(()) };
    let argument = stack_dir::shell_argument(dir);
    output::line(&format!("Stop the stack:\npassbook dev down --dir {argument}\n"))
}

/// URLs of the API of each account-service.
fn account_replicas(file: &StackFile) -> Vec<&str> {
    let replicas =
        file.processes.iter().filter(|process| process.name.starts_with("account-service-"));
    replicas.filter_map(|process| process.http.as_deref()).collect()
}
