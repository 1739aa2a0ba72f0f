//! Deposits the payments of a file.

use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use client::{AccountId, Client, Decimal, Error, IdempotencyKey, Movement, Record, Status};
use serde::{Deserialize, Serialize};

use crate::journal::Journal;

/// How long the service may wait for the ledger before it answers.
const WAIT: Duration = Duration::from_secs(20);
/// How long to wait for the settlement of a payment.
const PATIENCE: Duration = Duration::from_secs(120);

/// A line of the file. The reference names one payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Payment {
    reference: String,
    account: AccountId,
    #[serde(with = "client::money")]
    amount: Decimal,
    currency: String,
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Entry {
    /// Written before the first request of the payment.
    Begun { payment: Payment, key: IdempotencyKey },
    /// Written after its outcome is known.
    Settled { reference: String, status: Status, record: String },
}

/// What the journal knows of a payment.
#[derive(Debug)]
struct Known {
    payment: Payment,
    key: IdempotencyKey,
    settled: Option<Status>,
}

/// Makes the payments. The exit code is 0 if every payment of the file was deposited.
pub(crate) async fn run(client: &Client, payments: &Path, journal: &Path) -> Result<ExitCode> {
    let payments = read(payments)?;
    let (mut journal, entries) = Journal::open(journal)?;
    let mut known = BTreeMap::new();
    for entry in entries {
        match entry {
            Entry::Begun { payment, key } => {
                known.insert(payment.reference.clone(), Known { payment, key, settled: None });
            }
            Entry::Settled { reference, status, .. } => {
                if let Some(known) = known.get_mut(&reference) {
                    known.settled = Some(status);
                }
            }
        }
    }
    // The same reference with another amount is an error of the file, and no second payment.
    for payment in &payments {
        if let Some(known) = known.get(&payment.reference) {
            ensure!(known.payment == *payment, "{} has changed", payment.reference);
        }
    }
    let mut complete = true;
    for payment in payments {
        let reference = payment.reference.clone();
        if !known.contains_key(&reference) {
            // The key is on disk before the request: after a crash, the same key is sent again.
            let key = IdempotencyKey::random();
            let entry = Entry::Begun { payment: payment.clone(), key: key.clone() };
            journal.append(&entry)?;
            known.insert(reference.clone(), Known { payment, key, settled: None });
        }
        let Some(known) = known.get(&reference) else { continue };
        let status = match known.settled {
            Some(status) => status,
            None => match deposit(client, known).await {
                Ok(record) => {
                    let (status, record) = (record.status, record.record_id.to_string());
                    let reference = reference.clone();
                    journal.append(&Entry::Settled { reference, status, record })?;
                    status
                }
                // Run again later: the key finds what was stored.
                Err(error) if error.may_retry() || error.outcome_is_unknown() => {
                    let remedy = format!("{reference} is open: run the same command again");
                    return Err(anyhow::Error::from(error).context(remedy));
                }
                // Final, and nothing was stored. After a correction of the cause, the same key can
                // be used.
                Err(error) => {
                    eprintln!("{reference}: {error}");
                    complete = false;
                    continue;
                }
            },
        };
        println!("{reference} {status:?}");
        // FAILED is the ledger's final refusal. Another try is another payment.
        complete &= status == Status::Success;
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn deposit(client: &Client, known: &Known) -> Result<Record, Error> {
    let Payment { reference, account, amount, currency } = &known.payment;
    let movement = Movement {
        currency: Some(currency.clone()),
        reference: Some(reference.clone()),
        wait: Some(WAIT),
        ..Movement::of(*amount)
    };
    let record = client.deposit(*account, &movement, &known.key).await?;
    // PENDING is durable, and not yet booked.
    client.settled(record, PATIENCE).await
}

/// The payments of the file, checked before anything is sent.
fn read(path: &Path) -> Result<Vec<Payment>> {
    let mut payments: Vec<Payment> = Vec::new();
    for payment in csv::Reader::from_path(path)?.deserialize() {
        let payment: Payment = payment?;
        let Payment { reference, amount, .. } = &payment;
        ensure!(!reference.is_empty(), "a payment has no reference");
        ensure!(*amount > Decimal::ZERO, "{reference}: {amount} is not an amount to deposit");
        let is_known = payments.iter().any(|known| known.reference == *reference);
        ensure!(!is_known, "{reference} occurs twice");
        payments.push(payment);
    }
    Ok(payments)
}
