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
//!
//! A read of the ledger gives a balance that may be newer than the projected one. It was read
//! before this statement. So each applied movement is in that balance, in the projected one, or
//! PENDING here. The newer of the two balances counts: the projected one, if results came in
//! between. Records that the ledger has decided are not PENDING any more: they are in that balance,
//! or refused.

use contract::{AccountId, Balance, Currency, RecordId};
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

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
    let found = find_account_beside_ledger(database, id, &SeenInLedger::default()).await?;
    Ok(found.map(|found| (found.account, found.amounts)))
}

/// What the ledger had, before the account is read.
#[derive(Debug, Clone, Default)]
pub struct SeenInLedger {
    /// Its balance. `None` keeps the projected balance.
    pub balance: Option<LedgerBalance>,
    /// Decided records. They do not count as PENDING.
    pub decided: Vec<RecordId>,
    /// How many PENDING records to name in the answer.
    pub names: u16,
}

/// The ledger's balance of an account with movements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerBalance {
    pub balance: Balance,
    /// The number of the last movement in it.
    pub account_seq: i64,
    /// The time of that movement.
    pub moved_at: OffsetDateTime,
}

/// An account with its PENDING amounts.
#[derive(Debug, Clone)]
pub struct AccountBesideLedger {
    pub account: Account,
    pub amounts: PendingAmounts,
    /// The oldest PENDING records.
    pub pending: Vec<RecordId>,
}

/// The account with this id: with the later of its projected and the ledger's balance, and with
/// the PENDING amounts beside that.
///
/// # Errors
/// [`StoreError`]
pub async fn find_account_beside_ledger(
    database: impl PgExecutor<'_>,
    id: AccountId,
    seen: &SeenInLedger,
) -> Result<Option<AccountBesideLedger>, StoreError> {
    let ledger = seen.balance;
    let decided: Vec<Uuid> = seen.decided.iter().map(|id| id.as_uuid()).collect();
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
               FROM pending WHERE id NOT IN (SELECT unnest($2::uuid[]))
           )
           SELECT account_id, owner_id, currency, status, latest.balance AS "balance!",
               latest.account_seq AS "account_seq!", reference, metadata::text AS metadata,
               created_at, latest.updated_at AS "updated_at!",
               round(incoming, 4)::text AS "incoming!", round(outgoing, 4)::text AS "outgoing!",
               round(latest.balance - outgoing, 4)::text AS "available!",
               ARRAY(SELECT id FROM pending ORDER BY id LIMIT $6) AS "pending!"
           FROM accounts CROSS JOIN sums CROSS JOIN LATERAL (
               SELECT accounts.balance, accounts.account_seq, accounts.updated_at
               WHERE accounts.account_seq >= $3
               UNION ALL
               SELECT $4::numeric, $3::bigint, greatest($5::timestamptz, accounts.updated_at)
               WHERE accounts.account_seq < $3) AS latest
           WHERE account_id = $1"#,
        id.as_uuid(),
        &decided,
        ledger.map_or(0, |ledger| ledger.account_seq),
        ledger.map(|ledger| ledger.balance.as_decimal()),
        ledger.map(|ledger| ledger.moved_at),
        i64::from(seen.names),
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
    let pending = row.pending.into_iter().map(RecordId::from_uuid).collect();
    Ok(Some(AccountBesideLedger { account, amounts, pending }))
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
