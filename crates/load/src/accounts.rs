//! Opens the accounts of a run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::{
    Target, WaitFor,
    request::RequestWriter,
    run::connect,
    sampler::{MovementKind, SampledMovement},
    settlement::count_records,
};

/// Maximum number of connections.
const CONNECTIONS: u16 = 32;
/// Time limit for the first deposits to settle.
const FUNDING_LIMIT: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpenedAccount {
    account_id: String,
}

/// Opens `number` accounts in KRW through the API and returns their ids. With
/// `funded`, each account gets a deposit, which is settled on return, so that
/// withdrawals succeed.
///
/// # Errors
/// An account or deposit is rejected, or the deposits do not settle in time.
pub async fn open_accounts(target: &Target, number: usize, funded: bool) -> Result<Vec<String>> {
    let writer = RequestWriter::new(target, WaitFor::Accepted);
    let (begun, claimed) = (SystemTime::now(), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    let connections = CONNECTIONS.min(u16::try_from(number).unwrap_or(CONNECTIONS));
    for (_, mut connection) in connect(target, connections).await? {
        let (writer, claimed) = (writer.clone(), Arc::clone(&claimed));
        tasks.spawn(async move {
            let (mut opened, mut request) = (Vec::new(), Vec::new());
            while claimed.fetch_add(1, Ordering::Relaxed) < number {
                writer.account(&mut request);
                let response = connection.exchange(&request).await?;
                let (status, body) = (response.status, String::from_utf8_lossy(response.body));
                ensure!(status == 201, "opening an account failed with status {status}: {body}");
                let OpenedAccount { account_id } =
                    serde_json::from_str(&body).context("parsing the opened account")?;
                if funded {
                    let kind = MovementKind::Deposit;
                    writer.movement(&mut request, SampledMovement { account: &account_id, kind });
                    let status = connection.exchange(&request).await?.status;
                    ensure!(status == 202, "the first deposit failed with status {status}");
                }
                opened.push(account_id);
            }
            anyhow::Ok(opened)
        });
    }
    let mut accounts = Vec::with_capacity(number);
    while let Some(opened) = tasks.join_next().await {
        accounts.extend(opened??);
    }
    let waiting = Instant::now();
    while funded && count_records(target, &accounts, begun).await?.pending > 0 {
        ensure!(
            waiting.elapsed() < FUNDING_LIMIT,
            "the first deposits did not settle within {FUNDING_LIMIT:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(accounts)
}
