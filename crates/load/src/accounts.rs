//! Accounts to move money of.

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
    Answer, Target,
    choice::{Direction, Movement},
    request::Requests,
    run::connect,
    settled::books_since,
};

/// Connections that open them.
const AT_ONCE: u16 = 32;
/// The first deposits may take so long to settle.
const FUNDED_WITHIN: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opened {
    account_id: String,
}

/// Opens so many accounts in KRW through the API, and gives their ids. With
/// `funded`, each holds a settled deposit then, so that withdrawals succeed.
///
/// # Errors
/// When one is refused, or the deposits do not settle.
pub async fn open_accounts(target: &Target, number: usize, funded: bool) -> Result<Vec<String>> {
    let requests = Requests::new(&target.token, Answer::Accepted);
    let (begun, taken) = (SystemTime::now(), Arc::new(AtomicUsize::new(0)));
    let mut openers = JoinSet::new();
    let connections = AT_ONCE.min(u16::try_from(number).unwrap_or(AT_ONCE));
    for (_, mut connection) in connect(target, connections).await? {
        let (requests, taken) = (requests.clone(), Arc::clone(&taken));
        openers.spawn(async move {
            let (mut opened, mut request) = (Vec::new(), Vec::new());
            while taken.fetch_add(1, Ordering::Relaxed) < number {
                requests.account(&mut request);
                let answer = connection.exchange(&request).await?;
                let body = String::from_utf8_lossy(answer.body);
                ensure!(answer.status == 201, "no account: {} {body}", answer.status);
                let Opened { account_id } = serde_json::from_str(&body).context("an account")?;
                if funded {
                    let movement = Movement { account: &account_id, direction: Direction::In };
                    requests.movement(&mut request, movement);
                    let status = connection.exchange(&request).await?.status;
                    ensure!(status == 202, "a first deposit is answered with {status}");
                }
                opened.push(account_id);
            }
            anyhow::Ok(opened)
        });
    }
    let mut accounts = Vec::with_capacity(number);
    while let Some(opened) = openers.join_next().await {
        accounts.extend(opened??);
    }
    let waiting = Instant::now();
    while funded && books_since(target, &accounts, begun).await?.pending > 0 {
        ensure!(waiting.elapsed() < FUNDED_WITHIN, "the first deposits do not settle");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(accounts)
}
