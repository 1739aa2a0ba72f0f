//! The result of a repair.

use anyhow::Result;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::unrecorded::Unrecorded;
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
    /// Transactions whose records the account-service does not have.
    pub(super) unrecorded: Unrecorded,
}

impl RepairReport {
    /// Whether something is left that this command can't mend.
    pub(super) fn has_findings(&self) -> bool {
        !self.left.is_empty() || self.unrecorded.count > 0
    }

    /// # Errors
    /// When stdout is closed.
    pub(super) fn print(&self, format: Output) -> Result<()> {
        if format == Output::Json {
            return output::json(self);
        }
        let Self { compared, booked, accounts, done, left, unrecorded } = self;
        let verb = if *done { "were" } else { "would be" };
        output::line(&format!(
            "{compared} settled records compared: {booked} outcomes {verb} booked again, in \
             {accounts} accounts; {} can't be booked; {} transactions have no record",
            left.len(),
            unrecorded.count
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
        if !unrecorded.first.is_empty() {
            output::table(
                &["LOST RECORD", "ACCOUNT", "TRANSACTION", "TYPE", "AMOUNT", "STATUS", "DECIDED"],
                unrecorded.first.iter().map(|transaction| {
                    vec![
                        transaction.record_id.to_string(),
                        transaction.account_id.to_string(),
                        transaction.transaction_id.to_string(),
                        transaction.r#type.clone(),
                        format!("{} {}", transaction.amount, transaction.currency),
                        transaction.status.clone(),
                        transaction.created_at.to_string(),
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
