//! The usual case in one statement, which is its own commit: movements that
//! are all new and all possible.

use std::collections::HashMap;

use anyhow::Context;
use contract::{AccountId, Balance, Command, Outcome, RecordId};
use runtime::worker::Failure;
use sqlx::PgPool;

use super::entries::{Stored, Taken};
use crate::ledger::{Entry, Forecast};

/// Moves each account that allows all that is forecast of it, and adds the
/// entries of its commands. Accounts that are `new` are added, if they are
/// missing. Does nothing if a record is decided already.
///
/// An account that is locked by somebody else is waited for, and then taken as
/// it is by that time; entries are not looked for again, but a record that was
/// decided meanwhile violates the constraint. So nothing is ever applied twice,
/// whoever else is writing.
///
/// Gives the entries by their records. Committed when this returns.
#[expect(clippy::as_conversions, reason = "sqlx takes the type of such an array this way")]
pub(super) async fn apply(
    pool: &PgPool,
    commands: &[Command],
    forecast: &Forecast,
    new: impl Fn(&AccountId) -> bool,
) -> Result<Result<HashMap<RecordId, Stored>, Taken>, Failure> {
    let courses = forecast.accounts.values();
    // The limits are those of `Balance`. A join of both sides in full can't be done by looking
    // through all accounts for each command, which is what the planner takes where it is allowed
    // no other join.
    let rows = sqlx::query!(
        r#"
        WITH forecast AS (
            SELECT * FROM unnest($1::uuid[], $2::text[], $3::numeric[], $4::bigint[],
                                 $5::numeric[], $6::numeric[], $7::bool[])
                AS forecast (account_id, currency, net, count, lowest, highest, new)
            WHERE NOT EXISTS (SELECT FROM transactions WHERE record_id = ANY($8::uuid[]))
        ), added AS (
            INSERT INTO accounts (account_id, currency, balance, account_seq)
            SELECT account_id, currency, net, count FROM forecast
            WHERE new AND lowest >= 0 AND highest < 1000000000000000000
            ON CONFLICT DO NOTHING
            RETURNING account_id, 0::numeric AS balance, 0::bigint AS account_seq
        ), moved AS (
            UPDATE accounts SET balance = accounts.balance + forecast.net,
                account_seq = accounts.account_seq + forecast.count, updated_at = now()
            FROM forecast
            WHERE accounts.account_id = ANY (ARRAY[forecast.account_id])
                AND accounts.currency = forecast.currency
                AND accounts.balance + forecast.lowest >= 0
                AND accounts.balance + forecast.highest < 1000000000000000000
            RETURNING accounts.account_id, accounts.balance - forecast.net AS balance,
                accounts.account_seq - forecast.count AS account_seq
        ), step AS (
            SELECT * FROM (SELECT * FROM added UNION ALL SELECT * FROM moved) AS before
                FULL JOIN unnest($8::uuid[], $9::uuid[], $10::text[], $11::numeric[], $12::text[],
                                 $13::numeric[], $14::bigint[]) WITH ORDINALITY
                    AS step (record_id, account_id, type, amount, currency, net, count, at)
                USING (account_id)
            OFFSET 0
        )
        INSERT INTO transactions
            (record_id, account_id, type, amount, currency, status, balance_after, account_seq)
        SELECT record_id, account_id, type, amount, currency, 'SUCCESS', balance + net, account_seq + count
        FROM step WHERE balance IS NOT NULL ORDER BY at
        RETURNING id, record_id, balance_after AS "balance_after!", account_seq AS "account_seq!",
            created_at
        "#,
        &forecast.accounts.keys().map(|id| id.as_uuid()).collect::<Vec<_>>(),
        &courses.clone().map(|it| it.currency.code()).collect::<Vec<_>>() as &[&str],
        &courses.clone().map(|it| it.end.net).collect::<Vec<_>>(),
        &courses.clone().map(|it| it.end.count).collect::<Vec<_>>(),
        &courses.clone().map(|it| it.lowest).collect::<Vec<_>>(),
        &courses.map(|it| it.highest).collect::<Vec<_>>(),
        &forecast.accounts.keys().map(new).collect::<Vec<_>>(),
        &commands.iter().map(|it| it.record_id.as_uuid()).collect::<Vec<_>>(),
        &commands.iter().map(|it| it.account_id.as_uuid()).collect::<Vec<_>>(),
        &commands.iter().map(|it| it.kind.as_str()).collect::<Vec<_>>() as &[&str],
        &commands.iter().map(|it| it.amount.as_decimal()).collect::<Vec<_>>(),
        &commands.iter().map(|it| it.currency.code()).collect::<Vec<_>>() as &[&str],
        &forecast.steps.iter().map(|it| it.net).collect::<Vec<_>>(),
        &forecast.steps.iter().map(|it| it.count).collect::<Vec<_>>(),
    )
    .fetch_all(pool)
    .await;
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => return Taken::of(&error).map_or_else(|| Err(error.into()), |it| Ok(Err(it))),
    };
    let commands: HashMap<_, _> = commands.iter().map(|it| (it.record_id, it)).collect();
    let mut stored = HashMap::with_capacity(rows.len());
    for row in rows {
        let record_id = RecordId::from_uuid(row.record_id);
        let odd = || format!("transaction {} can't be read", row.id);
        let command = commands.get(&record_id).with_context(odd).map_err(Failure::Other)?;
        let balance = Balance::from_decimal(row.balance_after, command.currency);
        let balance_after = balance.with_context(odd).map_err(Failure::Other)?;
        let outcome = Outcome::Applied { balance_after, account_seq: row.account_seq };
        let entry = Entry::of(command, outcome);
        let processed_at = row.created_at;
        stored.insert(record_id, Stored { entry, transaction_id: row.id, processed_at });
    }
    Ok(Ok(stored))
}
