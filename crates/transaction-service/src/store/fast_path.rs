//! Applies new, allowed commands in one statement, which is its own transaction.

use std::collections::HashMap;

use anyhow::Context;
use contract::{AccountId, Balance, Command, MONEY_LIMIT, Outcome, RecordId};
use ledger::{Entry, Forecast, chain::NO_LINK};
use runtime::postgres::PgPool;
use runtime::worker::Failure;

use super::{
    chain,
    entries::{Conflict, StoredEntry},
};

/// Moves each account that allows its forecast effect, and inserts the entries of its
/// commands. Missing accounts are inserted if `is_new` holds for them. Nothing is
/// applied if a record of the batch is decided already.
///
/// The statement waits for accounts locked by other writers, and then uses their new
/// balances. It does not check again whether the records are decided. Instead, a
/// record decided during the wait violates the unique constraint, so nothing is ever
/// applied twice.
///
/// An entry has the time and the link of its account's move. The time is never before the
/// account's last one. After a wait, PostgreSQL evaluates the move again, with the clock and the
/// link of then.
///
/// Returns the applied entries by record; none after a conflict with another writer.
/// The entries are committed when this returns.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
pub(super) async fn apply(
    pool: &PgPool,
    commands: &[Command],
    forecast: &Forecast,
    is_new: impl Fn(&AccountId) -> bool,
) -> Result<HashMap<RecordId, StoredEntry>, Failure> {
    let effects = forecast.accounts.values();
    // The condition is that of `BatchEffect::is_allowed_by`. With hash and merge joins off, the
    // planner would choose a nested loop over all accounts per command. A full join has no such
    // plan.
    let rows = sqlx::query!(
        r#"
        WITH forecast AS (
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::numeric[], $4::bigint[],
                                 $5::numeric[], $6::numeric[], $7::bool[], $16::bytea[])
                AS forecast (account_id, currency, net, count, lowest, highest, new, contents)
            WHERE NOT EXISTS (SELECT FROM transactions WHERE record_id = ANY($8::uuid[]))
        ), added AS (
            INSERT INTO accounts
                (account_id, currency, balance, account_seq, created_at, updated_at, chain_link,
                 chain_hash)
            SELECT account_id, currency, net, count, at, at, 1,
                chain_hash($17, account_id, 1, count, net, at, contents)
            FROM (SELECT *, clock_timestamp() AS at FROM forecast) AS forecast
            WHERE new AND lowest >= 0 AND highest < $15
            ON CONFLICT DO NOTHING
            RETURNING account_id, 0::numeric AS balance, 0::bigint AS account_seq, updated_at,
                chain_link, chain_hash
        ), moved AS (
            UPDATE accounts SET balance = accounts.balance + forecast.net,
                account_seq = accounts.account_seq + forecast.count,
                chain_link = accounts.chain_link + 1,
                (updated_at, chain_hash) = (
                    SELECT at, chain_hash(
                        accounts.chain_hash, accounts.account_id, accounts.chain_link + 1,
                        accounts.account_seq + forecast.count, accounts.balance + forecast.net, at,
                        forecast.contents)
                    FROM (SELECT greatest(accounts.updated_at, clock_timestamp()) AS at) AS clock)
            FROM forecast
            WHERE accounts.account_id = ANY (ARRAY[forecast.account_id])
                AND accounts.currency = forecast.currency
                AND accounts.balance + forecast.lowest >= 0
                AND accounts.balance + forecast.highest < $15
            RETURNING accounts.account_id, accounts.balance - forecast.net AS balance,
                accounts.account_seq - forecast.count AS account_seq, accounts.updated_at,
                accounts.chain_link, accounts.chain_hash
        ), step AS (
            SELECT * FROM (SELECT * FROM added UNION ALL SELECT * FROM moved) AS before
                FULL JOIN unnest($8::uuid[], $9::uuid[], $10::text[], $11::numeric[], $12::text[],
                                 $13::numeric[], $14::bigint[]) WITH ORDINALITY
                    AS step (record_id, account_id, type, amount, currency, net, count, at)
                USING (account_id)
            OFFSET 0
        )
        INSERT INTO transactions
            (record_id, account_id, type, amount, currency, status, balance_after, account_seq,
             created_at, chain_link, chain_hash)
        SELECT record_id, account_id, type, amount, currency, 'SUCCESS', balance + net,
            account_seq + count, updated_at, chain_link, chain_hash
        FROM step WHERE balance IS NOT NULL ORDER BY at
        RETURNING id, record_id, balance_after AS "balance_after!", account_seq AS "account_seq!",
            created_at
        "#,
        &forecast.accounts.keys().map(|id| id.as_uuid()).collect::<Vec<_>>(),
        &effects.clone().map(|effect| effect.currency.code()).collect::<Vec<_>>() as &[&str],
        &effects.clone().map(|effect| effect.end.net).collect::<Vec<_>>(),
        &effects.clone().map(|effect| effect.end.count).collect::<Vec<_>>(),
        &effects.clone().map(|effect| effect.lowest).collect::<Vec<_>>(),
        &effects.map(|effect| effect.highest).collect::<Vec<_>>(),
        &forecast.accounts.keys().map(is_new).collect::<Vec<_>>(),
        &commands.iter().map(|command| command.record_id.as_uuid()).collect::<Vec<_>>(),
        &commands.iter().map(|command| command.account_id.as_uuid()).collect::<Vec<_>>(),
        &commands.iter().map(|command| command.kind.as_str()).collect::<Vec<_>>() as &[&str],
        &commands.iter().map(|command| command.amount.as_decimal()).collect::<Vec<_>>(),
        &commands.iter().map(|command| command.currency.code()).collect::<Vec<_>>() as &[&str],
        &forecast.totals.iter().map(|total| total.net).collect::<Vec<_>>(),
        &forecast.totals.iter().map(|total| total.count).collect::<Vec<_>>(),
        MONEY_LIMIT,
        &chain::of_applied(commands).values().map(|hash| hash.to_vec()).collect::<Vec<_>>(),
        &NO_LINK[..],
    )
    .fetch_all(pool)
    .await;
    let rows = match rows {
        Ok(rows) => rows,
        // Another writer decided first: the slow path handles the whole batch.
        Err(error) if Conflict::of(&error).is_some() => return Ok(HashMap::new()),
        Err(error) => return Err(error.into()),
    };
    let commands: HashMap<_, _> =
        commands.iter().map(|command| (command.record_id, command)).collect();
    let mut stored = HashMap::with_capacity(rows.len());
    for row in rows {
        let record_id = RecordId::from_uuid(row.record_id);
        let invalid = || format!("transaction {} has an invalid value", row.id);
        let command = commands.get(&record_id).with_context(invalid).map_err(Failure::Other)?;
        let balance = Balance::from_decimal(row.balance_after, command.currency);
        let balance_after = balance.with_context(invalid).map_err(Failure::Other)?;
        let outcome = Outcome::Applied { balance_after, account_seq: row.account_seq };
        let entry = Entry::new(command, outcome);
        let processed_at = row.created_at;
        stored.insert(record_id, StoredEntry { entry, transaction_id: row.id, processed_at });
    }
    Ok(stored)
}
