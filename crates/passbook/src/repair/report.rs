//! The result of a repair.

use anyhow::Result;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::output::{self, Output};

/// A record with an outcome the ledger can't book.
#[derive(Debug, Serialize, FromRow)]
#[serde(rename_all = "camelCase")]
pub(super) struct UnbookableRecord {
    record_id: Uuid,
    account_id: Uuid,
    transaction_id: i64,
    status: String,
    why: String,
}

/// The result of a repair, or of its dry run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RepairReport {
    /// Settled records compared with the ledger.
    pub(super) compared: u64,
    /// Outcomes booked again.
    pub(super) booked: i64,
    /// Accounts with a changed balance.
    pub(super) accounts: i64,
    /// False for a dry run.
    pub(super) done: bool,
    /// Outcomes left unbooked.
    pub(super) left: Vec<UnbookableRecord>,
}

impl RepairReport {
    /// # Errors
    /// When stdout is closed.
    pub(super) fn print(&self, format: Output) -> Result<()> {
        if format == Output::Json {
            return output::json(self);
        }
        let Self { compared, booked, accounts, done, left } = self;
        let verb = if *done { "were" } else { "would be" };
        output::line(&format!(
            "{compared} settled records compared: {booked} outcomes {verb} booked again, in \
             {accounts} accounts; {} can't be booked",
            left.len()
        ))?;
        if !left.is_empty() {
            output::table(
                &["RECORD", "ACCOUNT", "TRANSACTION", "STATUS", "WHY"],
                left.iter().map(|record| {
                    vec![
                        record.record_id.to_string(),
                        record.account_id.to_string(),
                        record.transaction_id.to_string(),
                        record.status.clone(),
                        record.why.clone(),
                    ]
                }),
            )?;
        }
        if !done && *booked > 0 {
            output::line("nothing was changed: use --yes to book the outcomes")?;
        }
        Ok(())
    }
}
