//! Opens the accounts of a run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use ::client::{IdempotencyKey, Movement, OpenAccount};
use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::{Target, request::DEPOSIT, settlement::count_records};

/// Maximum number of requests at the same time.
const CONCURRENCY: usize = 32;
/// Time limit for the first deposits to settle.
const FUNDING_LIMIT: Duration = Duration::from_secs(120);

/// Opens `number` accounts in KRW through the API and returns their ids. With
/// `funded`, each account gets a deposit, which is settled on return, so that
/// withdrawals succeed.
///
/// # Errors
/// An account or deposit is rejected, or the deposits do not settle in time.
pub async fn open_accounts(target: &Target, number: usize, funded: bool) -> Result<Vec<String>> {
    let (begun, claimed) = (SystemTime::now(), Arc::new(AtomicUsize::new(0)));
    let first = Movement::of(DEPOSIT.parse().context("parsing the amount of a deposit")?);
    let clients = target.clients()?;
    let mut tasks = JoinSet::new();
    for client in clients.iter().cycle().take(CONCURRENCY.min(number)) {
        let (client, claimed, first) = (client.clone(), Arc::clone(&claimed), first.clone());
        tasks.spawn(async move {
            let (new, mut opened) = (OpenAccount::new("KRW"), Vec::new());
            while claimed.fetch_add(1, Ordering::Relaxed) < number {
                let account = client.open_account(&new, &IdempotencyKey::random()).await;
                let id = account.context("opening an account")?.account_id;
                if funded {
                    let deposit = client.deposit(id, &first, &IdempotencyKey::random()).await;
                    deposit.context("making the first deposit")?;
                }
                opened.push(id.to_string());
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
