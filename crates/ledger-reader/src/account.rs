//! The present of an account: its balance, and which of its records the ledger has decided.

use contract::{AccountId, Balance, Currency, RecordId};
use sqlx::types::Uuid;
use time::OffsetDateTime;

use crate::{HistoryError, Ledger, Position, Snapshot, invalid_balance};

/// An account in a snapshot.
#[derive(Debug)]
pub struct LedgerAccount {
    snapshot: Snapshot,
    account: AccountId,
    position: Position,
    moved_at: Option<OffsetDateTime>,
}

impl LedgerAccount {
    /// The account in a new snapshot. Its balance is 0 if the ledger has never seen it.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub async fn find(
        ledger: &Ledger,
        account: AccountId,
        currency: Currency,
    ) -> Result<Self, HistoryError> {
        let mut snapshot = ledger.current().await?;
        let row = sqlx::query!(
            r#"SELECT a.currency AS "currency!", a.balance AS "balance!",
                      a.account_seq AS "account_seq!", t.created_at AS "moved_at?"
               FROM reporting.accounts AS a
                   LEFT JOIN reporting.transactions AS t
                       ON t.account_id = a.account_id AND t.account_seq = a.account_seq
               WHERE a.account_id = $1"#,
            account.as_uuid()
        )
        .fetch_optional(&mut *snapshot)
        .await?;
        let Some(row) = row else {
            let position = Position { balance: Balance::zero(currency), account_seq: 0 };
            return Ok(Self { snapshot, account, position, moved_at: None });
        };
        let inconsistent = |finding| HistoryError::Inconsistent { account, finding };
        if row.currency != currency.code() {
            let finding = format!("it is in {currency}, but the ledger has {}", row.currency);
            return Err(inconsistent(finding));
        }
        let balance = Balance::from_decimal(row.balance, currency)
            .ok_or_else(|| inconsistent(invalid_balance(row.balance, row.account_seq, currency)))?;
        let position = Position { balance, account_seq: row.account_seq };
        Ok(Self { snapshot, account, position, moved_at: row.moved_at })
    }

    /// The balance, and the number of the last movement in it.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// The time of the last movement; `None` without one.
    #[must_use]
    pub const fn moved_at(&self) -> Option<OffsetDateTime> {
        self.moved_at
    }

    /// Those of the account's records that the snapshot has decided.
    ///
    /// # Errors
    /// [`HistoryError`]
    pub async fn decided(&mut self, records: &[RecordId]) -> Result<Vec<RecordId>, HistoryError> {
        let ids: Vec<Uuid> = records.iter().map(|id| id.as_uuid()).collect();
        let decided = sqlx::query_scalar!(
            r#"SELECT record_id AS "record_id!" FROM reporting.transactions
               WHERE record_id = ANY($1) AND account_id = $2"#,
            &ids,
            self.account.as_uuid()
        )
        .fetch_all(&mut *self.snapshot)
        .await?;
        Ok(decided.into_iter().map(RecordId::from_uuid).collect())
    }
}
