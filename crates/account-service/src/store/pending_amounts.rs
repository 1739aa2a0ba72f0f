//! An account with the sums of its PENDING records.
//!
//! No index has `status`: see `window`. A PENDING record is inside the window of the redrive, in
//! the range that the window has left, or listed. All three are read by an index, in one statement
//! and so in one snapshot: a record counts either here or in the balance. An account has few
//! records in the window, which spans seconds.
//!
//! The one exception is safe. A balance moves to the newest result that has arrived. While the
//! result of an earlier withdrawal is on its way, the withdrawal is in both, and `available` is
//! too low for a moment. It is never too high.

use contract::{AccountId, Balance, Currency};
use sqlx::PgExecutor;

use super::{
    StoreError,
    accounts::{Account, AccountRow},
};

/// Sums of an account. They may exceed the limits of an amount and a balance, so they are kept as
/// text with exactly the currency's decimals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingAmounts {
    /// Of the PENDING deposits.
    pub incoming: String,
    /// Of the PENDING withdrawals.
    pub outgoing: String,
    /// The balance without the PENDING withdrawals. Below zero if the ledger will refuse one.
    pub available: String,
}

impl PendingAmounts {
    /// Those of an account without PENDING records.
    #[must_use]
    pub fn none(currency: Currency, balance: Balance) -> Self {
        let zero = Balance::zero(currency).to_string();
        Self { incoming: zero.clone(), outgoing: zero, available: balance.to_string() }
    }
}

/// The account with this id, and its PENDING amounts.
///
/// # Errors
/// [`StoreError`]
pub async fn find_account_with_pending(
    database: impl PgExecutor<'_>,
    id: AccountId,
) -> Result<Option<(Account, PendingAmounts)>, StoreError> {
    let row = sqlx::query!(
        r#"WITH ranges AS (
               SELECT floor AS low, ceiling AS high FROM redrive_window
               UNION ALL SELECT left_floor, least(left_ceiling, floor) FROM redrive_window
               UNION ALL SELECT greatest(left_floor, ceiling), left_ceiling FROM redrive_window
           ), listed AS (
               SELECT record_id FROM pending_records WHERE account_id = $1
               UNION ALL SELECT record_id FROM pending_records WHERE account_id IS NULL
           ), pending AS (
               SELECT r.id, r.type, r.amount FROM ranges CROSS JOIN LATERAL (
                   SELECT id, type, amount FROM transaction_records
                   WHERE account_id = $1 AND id >= low AND id < high AND status = 'PENDING') AS r
               UNION
               SELECT r.id, r.type, r.amount FROM listed CROSS JOIN LATERAL (
                   SELECT id, type, amount FROM transaction_records
                   WHERE id = ANY (ARRAY[record_id]) AND account_id IS NOT DISTINCT FROM $1
                       AND status = 'PENDING') AS r
           ), sums AS (
               SELECT coalesce(sum(amount) FILTER (WHERE type = 'DEPOSIT'), 0) AS incoming,
                   coalesce(sum(amount) FILTER (WHERE type = 'WITHDRAWAL'), 0) AS outgoing
               FROM pending
           )
           SELECT account_id, owner_id, currency, status, balance, account_seq,
               reference, metadata::text AS metadata, created_at, updated_at,
               round(incoming, 4)::text AS "incoming!", round(outgoing, 4)::text AS "outgoing!",
               round(balance - outgoing, 4)::text AS "available!"
           FROM accounts CROSS JOIN sums WHERE account_id = $1"#,
        id.as_uuid(),
    );
    let Some(row) = row.fetch_optional(database).await? else { return Ok(None) };
    let account = AccountRow {
        account_id: row.account_id,
        owner_id: row.owner_id,
        currency: row.currency,
        status: row.status,
        balance: row.balance,
        account_seq: row.account_seq,
        reference: row.reference,
        metadata: row.metadata,
        created_at: row.created_at,
        updated_at: row.updated_at,
    };
    let account = Account::try_from(account)?;
    let invalid = || StoreError::InvalidRow(format!("account {id}"));
    let sum = |text: &str| with_decimals(text, account.currency).ok_or_else(invalid);
    let amounts = PendingAmounts {
        incoming: sum(&row.incoming)?,
        outgoing: sum(&row.outgoing)?,
        available: sum(&row.available)?,
    };
    Ok(Some((account, amounts)))
}

/// A decimal with at least the currency's decimals, cut to them: the rest are zeros.
fn with_decimals(text: &str, currency: Currency) -> Option<String> {
    let (whole, decimals) = text.split_once('.')?;
    match usize::try_from(currency.exponent()).ok()? {
        0 => Some(whole.to_owned()),
        exponent => Some(format!("{whole}.{}", decimals.get(..exponent)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_has_the_decimals_of_its_currency() {
        for (text, code, expected) in [
            ("0.0000", "KRW", "0"),
            ("-20.0000", "KRW", "-20"),
            ("10.5000", "USD", "10.50"),
            ("-0.0100", "USD", "-0.01"),
            ("123456789012345678901234567890.1234", "CLF", "123456789012345678901234567890.1234"),
        ] {
            let currency = Currency::parse(code).unwrap();
            assert_eq!(with_decimals(text, currency).as_deref(), Some(expected));
        }
    }
}
