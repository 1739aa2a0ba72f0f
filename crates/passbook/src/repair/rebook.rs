//! Rebooks lost outcomes in one transaction of the ledger: all of them, or none.

use std::time::Duration;

use anyhow::{Context, Result};
use rust_decimal::Decimal;
use sqlx::{Connection, FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{report::RepairReport, unrecorded::find_unrecorded};
use crate::output;

/// Records compared with the ledger at once.
const BATCH: i64 = 5_000;
/// How long to wait for the lock on the ledger's tables.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A settled record of the account-service.
#[derive(Debug, FromRow)]
struct SettledRecord {
    id: Uuid,
    transaction_id: Option<i64>,
    account_id: Uuid,
    r#type: String,
    amount: Decimal,
    currency: String,
    status: String,
    reason: Option<String>,
    balance_after: Option<Decimal>,
    updated_at: OffsetDateTime,
}

/// Compares all settled records with the ledger, and books the lost outcomes if `commit` is set.
///
/// # Errors
/// When a database fails, or another transaction keeps the ledger's tables locked. Nothing is
/// booked then.
pub(super) async fn rebook(
    accounts: &mut PgConnection,
    ledger: &mut PgConnection,
    commit: bool,
) -> Result<RepairReport> {
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *accounts)
        .await?;
    let mut ledger = ledger.begin().await?;
    sqlx::query("SELECT set_config('lock_timeout', $1, true)")
        .bind(format!("{}s", LOCK_TIMEOUT.as_secs()))
        .execute(&mut *ledger)
        .await?;
    sqlx::raw_sql(PREPARE).execute(&mut *ledger).await.context("locking the ledger's tables")?;
    let compared = collect_lost(accounts, &mut ledger).await?;
    let unrecorded = find_unrecorded(accounts, &mut ledger).await?;
    sqlx::raw_sql(PLAN).execute(&mut *ledger).await?;
    let unbookable = "SELECT record_id, account_id, transaction_id, status, why FROM plan
                WHERE NOT bookable ORDER BY account_id, transaction_id";
    let unbookable = sqlx::query_as(unbookable).fetch_all(&mut *ledger).await?;
    let counts = "SELECT count(*), count(DISTINCT account_id) FILTER (WHERE status = 'SUCCESS')
                  FROM plan WHERE bookable";
    let (booked, moved) = sqlx::query_as(counts).fetch_one(&mut *ledger).await?;
    if commit {
        sqlx::raw_sql(BOOK).execute(&mut *ledger).await.context("booking")?;
        ledger.commit().await?;
    } else {
        ledger.rollback().await?;
    }
    let (accounts, left) = (moved, unbookable);
    Ok(RepairReport { compared, booked, accounts, done: commit, left, unrecorded })
}

const PREPARE: &str = "
    LOCK TABLE accounts, transactions IN EXCLUSIVE MODE;
    CREATE TEMPORARY TABLE lost (
        record_id uuid, transaction_id bigint, account_id uuid, type text, amount numeric(22, 4),
        currency text, status text, reason text, balance_after numeric(22, 4),
        settled_at timestamptz
    ) ON COMMIT DROP";

/// Copies the settled records unknown to the ledger into the table `lost`. Returns the number of
/// compared records.
async fn collect_lost(accounts: &mut PgConnection, ledger: &mut PgConnection) -> Result<u64> {
    let progress = output::progress("records compared with the ledger", None);
    let (mut compared, mut after) = (0, Uuid::nil());
    loop {
        let settled =
            "SELECT id, transaction_id, account_id, type, amount, currency, status, reason,
                              balance_after, updated_at
                       FROM transaction_records WHERE id > $1 AND status <> 'PENDING'
                       ORDER BY id LIMIT $2";
        let settled = sqlx::query_as::<_, SettledRecord>(settled).bind(after).bind(BATCH);
        let settled = settled.fetch_all(&mut *accounts).await?;
        let Some(last) = settled.last() else { break };
        after = last.id;
        compared += u64::try_from(settled.len()).unwrap_or(0);
        progress.set_position(compared);
        insert_unknown(ledger, &settled).await?;
    }
    progress.finish_and_clear();
    Ok(compared)
}

async fn insert_unknown(ledger: &mut PgConnection, settled: &[SettledRecord]) -> Result<()> {
    macro_rules! column {
        ($field:ident) => {
            settled.iter().map(|record| record.$field.clone()).collect::<Vec<_>>()
        };
    }
    let insert = "INSERT INTO lost
                SELECT new.* FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[],
                    $5::numeric[], $6::text[], $7::text[], $8::text[], $9::numeric[],
                    $10::timestamptz[])
                    AS new (record_id, transaction_id, account_id, type, amount, currency, status,
                            reason, balance_after, settled_at)
                WHERE NOT EXISTS (
                    SELECT FROM transactions WHERE transactions.record_id = new.record_id
                )";
    sqlx::query(insert)
        .bind(column!(id))
        .bind(column!(transaction_id))
        .bind(column!(account_id))
        .bind(column!(r#type))
        .bind(column!(amount))
        .bind(column!(currency))
        .bind(column!(status))
        .bind(column!(reason))
        .bind(column!(balance_after))
        .bind(column!(updated_at))
        .execute(ledger)
        .await?;
    Ok(())
}

/// Decides for each lost outcome whether it is bookable.
///
/// An account's outcomes follow each other in the order of their transaction ids, and each names
/// the balance after it. Starting from the restored balance, the amounts must add up to these
/// balances. All outcomes before the first mismatch are booked as they were. A refusal moves no
/// money, so it is bookable after a mismatch too.
const PLAN: &str = "
    CREATE TEMPORARY TABLE plan ON COMMIT DROP AS
    WITH moved AS (
        SELECT lost.*,
            coalesce(a.balance, 0) + sum(
                CASE WHEN lost.status = 'FAILED' THEN 0
                     WHEN lost.type = 'DEPOSIT' THEN lost.amount ELSE -lost.amount END
            ) OVER following AS balance,
            coalesce(a.account_seq, 0)
                + count(*) FILTER (WHERE lost.status = 'SUCCESS') OVER following AS account_seq,
            a.currency AS account_currency,
            count(*) OVER (PARTITION BY transaction_id) > 1
                OR EXISTS (SELECT FROM transactions t WHERE t.id = lost.transaction_id) AS taken
        FROM lost LEFT JOIN accounts a USING (account_id)
        WINDOW following AS (PARTITION BY account_id ORDER BY transaction_id)
    ), checked AS (
        SELECT moved.*, CASE
            WHEN taken THEN format('the ledger has given transaction id %s to another record', transaction_id)
            WHEN status = 'SUCCESS' AND currency <> account_currency THEN format('the account has the currency %s', account_currency)
            WHEN status = 'SUCCESS' AND balance <> balance_after THEN format(
                'the balance would be %s, but the record says %s: a movement in between is missing',
                trim_scale(balance), trim_scale(balance_after))
            END AS conflict
        FROM moved
    ), followed AS (
        SELECT checked.*, coalesce(bool_or(conflict IS NOT NULL AND status = 'SUCCESS') OVER (
            PARTITION BY account_id ORDER BY transaction_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), false) AS follows_conflict
        FROM checked
    )
    SELECT record_id, transaction_id, account_id, type, amount, currency, status, reason,
        balance_after, settled_at, account_seq,
        conflict IS NULL AND (status = 'FAILED' OR NOT follows_conflict) AS bookable,
        CASE WHEN follows_conflict AND NOT taken AND status = 'SUCCESS'
            THEN 'an earlier movement of its account can''t be booked' ELSE conflict END AS why
    FROM followed";

const BOOK: &str = "
    INSERT INTO accounts (account_id, currency)
    SELECT DISTINCT ON (account_id) account_id, currency FROM plan WHERE bookable
    -- The first movement sets an account's currency. A CURRENCY_MISMATCH refusal names another one.
    ORDER BY account_id, reason IS NOT DISTINCT FROM 'CURRENCY_MISMATCH', transaction_id
    ON CONFLICT DO NOTHING;

    UPDATE accounts SET balance = last.balance_after, account_seq = last.account_seq, updated_at = now()
    FROM (
        SELECT DISTINCT ON (account_id) account_id, balance_after, account_seq FROM plan
        WHERE bookable AND status = 'SUCCESS' ORDER BY account_id, transaction_id DESC
    ) AS last
    WHERE accounts.account_id = last.account_id;

    -- Each outcome is a link of its account's chain. The accounts get their last links at the end
    -- of each, because the update of a row takes longer with each of its versions.
    DO $$
    DECLARE
        outcome record;
        account uuid;
        link bigint;
        hash bytea;
    BEGIN
        FOR outcome IN
            SELECT transaction_id, record_id, account_id, type, amount, currency, status, reason,
                balance_after, CASE WHEN status = 'SUCCESS' THEN account_seq END AS account_seq,
                settled_at
            FROM plan WHERE bookable ORDER BY account_id, transaction_id
        LOOP
            IF account IS DISTINCT FROM outcome.account_id THEN
                UPDATE accounts SET chain_link = link, chain_hash = hash WHERE account_id = account;
                account := outcome.account_id;
                SELECT chain_link, chain_hash INTO STRICT link, hash FROM accounts
                WHERE account_id = account;
            END IF;
            link := link + 1;
            hash := chain_hash(
                hash, account, link, coalesce(outcome.account_seq, 0), outcome.balance_after,
                outcome.settled_at,
                sha256(chain_entry(outcome.record_id, outcome.type, outcome.amount,
                                   outcome.currency, outcome.status, outcome.reason)));
            INSERT INTO transactions (id, record_id, account_id, type, amount, currency, status,
                reason, balance_after, account_seq, created_at, chain_link, chain_hash)
            OVERRIDING SYSTEM VALUE
            VALUES (outcome.transaction_id, outcome.record_id, account, outcome.type,
                outcome.amount, outcome.currency, outcome.status, outcome.reason,
                outcome.balance_after, outcome.account_seq, outcome.settled_at, link, hash);
        END LOOP;
        UPDATE accounts SET chain_link = link, chain_hash = hash WHERE account_id = account;
    END $$;

    -- No transaction id is used twice: neither one left unbooked, nor one from a rolled-back
    -- transaction. A rollback undoes everything in this transaction except setval.
    SELECT setval(pg_get_serial_sequence('transactions', 'id'), highest)
    FROM (
        SELECT max(id) AS highest
        FROM (
            SELECT id FROM transactions UNION ALL SELECT transaction_id FROM lost
            UNION ALL SELECT last_value FROM transactions_id_seq WHERE is_called
        ) AS given
    ) AS given
    WHERE highest IS NOT NULL";
