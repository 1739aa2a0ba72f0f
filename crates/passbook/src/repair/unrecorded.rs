//! Finds the transactions whose records the account-service has lost.
//!
//! A record holds what the ledger does not know: its key, and who asked for it. So it can't be
//! written again, only listed.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::output;

/// Transactions compared with the records at once.
const BATCH: i64 = 5_000;
/// Maximum transactions in the list. All are counted.
const LISTED: usize = 10_000;

/// A transaction without a record.
#[derive(Debug, Clone, Serialize, FromRow)]
#[serde(rename_all = "camelCase")]
pub(super) struct UnrecordedTransaction {
    pub(super) record_id: Uuid,
    #[sqlx(rename = "id")]
    pub(super) transaction_id: i64,
    pub(super) account_id: Uuid,
    pub(super) r#type: String,
    pub(super) amount: String,
    pub(super) currency: String,
    pub(super) status: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) created_at: OffsetDateTime,
}

/// The transactions without a record: the first ones, in the order of their record ids.
#[derive(Debug, Default, Serialize)]
pub(super) struct Unrecorded {
    pub(super) count: u64,
    pub(super) first: Vec<UnrecordedTransaction>,
}

/// Compares all transactions with the records. No transaction may be committed meanwhile.
///
/// # Errors
/// When a database fails.
pub(super) async fn find_unrecorded(
    accounts: &mut PgConnection,
    ledger: &mut PgConnection,
) -> Result<Unrecorded> {
    let progress = output::progress("transactions compared with the records", None);
    let (mut found, mut after) = (Unrecorded::default(), Uuid::nil());
    loop {
        let transactions = "SELECT record_id, id, account_id, type, currency, status, created_at,
                                   trim_scale(amount)::text AS amount
                            FROM transactions WHERE record_id > $1 ORDER BY record_id LIMIT $2";
        let transactions = sqlx::query_as::<_, UnrecordedTransaction>(transactions);
        let transactions = transactions.bind(after).bind(BATCH).fetch_all(&mut *ledger).await?;
        let Some(last) = transactions.last() else { break };
        after = last.record_id;
        let ids: Vec<_> = transactions.iter().map(|transaction| transaction.record_id).collect();
        progress.inc(u64::try_from(ids.len()).unwrap_or(0));
        let missing = "SELECT id FROM unnest($1::uuid[]) AS id
                       WHERE NOT EXISTS (SELECT FROM transaction_records AS r WHERE r.id = id.id)";
        let missing: Vec<Uuid> =
            sqlx::query_scalar(missing).bind(ids).fetch_all(&mut *accounts).await?;
        found.count += u64::try_from(missing.len()).unwrap_or(0);
        let missing: BTreeSet<_> = missing.into_iter().collect();
        let room = LISTED.saturating_sub(found.first.len());
        let missing = transactions
            .into_iter()
            .filter(|transaction| missing.contains(&transaction.record_id))
            .take(room);
        found.first.extend(missing);
    }
    progress.finish_and_clear();
    Ok(found)
}
