//! `passbook repair`: after the ledger was restored from a backup, the outcomes
//! that were lost with it are known all the same, to the records that they
//! settled. This books them again as they were: same number, same balance, same
//! order. Deciding them anew would not do, since clients were told.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;
use contract::{TRANSACTION_RESULT, consumers};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::{Connection, FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    broker::{self, Address, Broker},
    cli::System,
    database,
    output::{self, Format, Output},
};

/// Records brought to the ledger at once.
const AT_ONCE: i64 = 5_000;
/// How long somebody else may hold the ledger.
const LOCK: Duration = Duration::from_secs(10);

/// Book outcomes again that a restored ledger has lost.
///
/// For a ledger that came back from a backup, while the account-service's database has all that
/// happened since. Only shows what it would do; --yes does it. The transaction-service must not
/// run, and the account-service must have settled every result that is in its stream. Records
/// that are PENDING are left alone: their commands come again. Exits with 1 when something can't
/// be booked, and lists it.
#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// Do it.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    system: System,
    #[command(flatten)]
    format: Format,
}

/// A settled record, as the account-service has it.
#[derive(Debug, FromRow)]
struct Told {
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

/// A record whose outcome can't be booked.
#[derive(Debug, Serialize, FromRow)]
#[serde(rename_all = "camelCase")]
struct Left {
    record_id: Uuid,
    account_id: Uuid,
    transaction_id: i64,
    status: String,
    why: String,
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// Settled records that were compared.
    compared: u64,
    /// Outcomes booked again.
    booked: i64,
    /// Accounts whose balance that moved.
    accounts: i64,
    /// Whether it was done.
    done: bool,
    /// What could not be booked.
    left: Vec<Left>,
}

impl Repair {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let addresses = self.system.find().await?;
        let urls = addresses.databases.context("no database URLs are given")?;
        let mut accounts =
            database::connect(&urls.account).await.context("the account database")?;
        let ledger = database::connect(&urls.transaction).await;
        let mut ledger = ledger.context("the transaction database")?;
        let working = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND usename = 'transaction_service'";
        let working: i64 = sqlx::query_scalar(working).fetch_one(&mut ledger).await?;
        ensure!(
            working == 0,
            "the transaction-service is connected to the ledger: stop it first, all replicas"
        );
        if let Some(address) = &addresses.nats {
            results_are_settled(address).await?;
        }
        let outcome = repair(&mut accounts, &mut ledger, self.yes).await?;
        let code = u8::from(!outcome.left.is_empty());
        outcome.print(self.format.output)?;
        Ok(ExitCode::from(code))
    }
}

/// A result that is settled later would be one more that the ledger has lost, and
/// its number could be given again.
async fn results_are_settled(address: &Address) -> Result<()> {
    let broker = Broker::connect(address).await?;
    let Some(stream) = broker.stream(TRANSACTION_RESULT).await? else { return Ok(()) };
    let info = broker::consumer(&stream, consumers::ACCOUNT_RESULT).await?;
    // Whoever makes it anew delivers everything to it again.
    let all = stream.cached_info().state.messages;
    let (waiting, unacked) = info.map_or((all, 0), |it| (it.num_pending, it.num_ack_pending));
    ensure!(
        waiting == 0 && unacked == 0,
        "the account-service has still to settle results, {waiting} waiting and {unacked} in hand: \
         let it run until there are none. Where both databases were restored, purge \
         {TRANSACTION_RESULT} first"
    );
    Ok(())
}

/// One transaction of the ledger: all of it, or nothing.
async fn repair(
    accounts: &mut PgConnection,
    ledger: &mut PgConnection,
    yes: bool,
) -> Result<Outcome> {
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *accounts)
        .await?;
    let mut ledger = ledger.begin().await?;
    sqlx::query("SELECT set_config('lock_timeout', $1, true)")
        .bind(format!("{}s", LOCK.as_secs()))
        .execute(&mut *ledger)
        .await?;
    sqlx::raw_sql(BEGIN).execute(&mut *ledger).await.context("taking the ledger for itself")?;
    let compared = collect(accounts, &mut ledger).await?;
    sqlx::raw_sql(PLAN).execute(&mut *ledger).await?;
    let left = "SELECT record_id, account_id, transaction_id, status, why FROM plan
                WHERE NOT bookable ORDER BY account_id, transaction_id";
    let left = sqlx::query_as(left).fetch_all(&mut *ledger).await?;
    let counts = "SELECT count(*), count(DISTINCT account_id) FILTER (WHERE status = 'SUCCESS')
                  FROM plan WHERE bookable";
    let (booked, moved) = sqlx::query_as(counts).fetch_one(&mut *ledger).await?;
    if yes {
        sqlx::raw_sql(BOOK).execute(&mut *ledger).await.context("booking")?;
        ledger.commit().await?;
    } else {
        ledger.rollback().await?;
    }
    Ok(Outcome { compared, booked, accounts: moved, done: yes, left })
}

const BEGIN: &str = "
    LOCK TABLE accounts, transactions IN EXCLUSIVE MODE;
    CREATE TEMPORARY TABLE told (
        record_id uuid, transaction_id bigint, account_id uuid, type text, amount numeric(22, 4),
        currency text, status text, reason text, balance_after numeric(22, 4),
        settled_at timestamptz
    ) ON COMMIT DROP";

/// Keeps, in the ledger, the settled records that it does not know. Gives how
/// many were compared.
async fn collect(accounts: &mut PgConnection, ledger: &mut PgConnection) -> Result<u64> {
    let progress = output::progress("records compared with the ledger", None);
    let (mut compared, mut after) = (0, Uuid::nil());
    loop {
        let settled =
            "SELECT id, transaction_id, account_id, type, amount, currency, status, reason,
                              balance_after, updated_at
                       FROM transaction_records WHERE id > $1 AND status <> 'PENDING'
                       ORDER BY id LIMIT $2";
        let settled = sqlx::query_as::<_, Told>(settled).bind(after).bind(AT_ONCE);
        let settled = settled.fetch_all(&mut *accounts).await?;
        let Some(last) = settled.last() else { break };
        after = last.id;
        compared += u64::try_from(settled.len()).unwrap_or(0);
        progress.set_position(compared);
        keep_unknown(ledger, &settled).await?;
    }
    progress.finish_and_clear();
    Ok(compared)
}

async fn keep_unknown(ledger: &mut PgConnection, settled: &[Told]) -> Result<()> {
    macro_rules! column {
        ($field:ident) => {
            settled.iter().map(|it| it.$field.clone()).collect::<Vec<_>>()
        };
    }
    let keep = "INSERT INTO told
                SELECT new.* FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[],
                    $5::numeric[], $6::text[], $7::text[], $8::text[], $9::numeric[],
                    $10::timestamptz[])
                    AS new (record_id, transaction_id, account_id, type, amount, currency, status,
                            reason, balance_after, settled_at)
                WHERE NOT EXISTS (
                    SELECT FROM transactions WHERE transactions.record_id = new.record_id
                )";
    sqlx::query(keep)
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

/// An account's outcomes follow each other in the order of their numbers, and
/// each says what it left: from the restored balance on, they must add up. What
/// comes before the first that does not is as it was. A refusal moves nothing,
/// and can stand alone.
const PLAN: &str = "
    CREATE TEMPORARY TABLE plan ON COMMIT DROP AS
    WITH moved AS (
        SELECT told.*,
            coalesce(a.balance, 0) + sum(
                CASE WHEN told.status = 'FAILED' THEN 0
                     WHEN told.type = 'DEPOSIT' THEN told.amount ELSE -told.amount END
            ) OVER following AS balance,
            coalesce(a.account_seq, 0)
                + count(*) FILTER (WHERE told.status = 'SUCCESS') OVER following AS account_seq,
            a.currency AS account_currency,
            count(*) OVER (PARTITION BY transaction_id) > 1
                OR EXISTS (SELECT FROM transactions t WHERE t.id = told.transaction_id) AS taken
        FROM told LEFT JOIN accounts a USING (account_id)
        WINDOW following AS (PARTITION BY account_id ORDER BY transaction_id)
    ), judged AS (
        SELECT moved.*, CASE
            WHEN taken THEN format('the ledger has given the number %s to another record', transaction_id)
            WHEN status = 'SUCCESS' AND currency <> account_currency THEN format('the account is in %s', account_currency)
            WHEN status = 'SUCCESS' AND balance <> balance_after THEN format(
                'the account comes to %s with it, and the record says %s: a movement in between is unknown',
                trim_scale(balance), trim_scale(balance_after))
            END AS wrong
        FROM moved
    ), followed AS (
        SELECT judged.*, coalesce(bool_or(wrong IS NOT NULL AND status = 'SUCCESS') OVER (
            PARTITION BY account_id ORDER BY transaction_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), false) AS behind_a_wrong_one
        FROM judged
    )
    SELECT record_id, transaction_id, account_id, type, amount, currency, status, reason,
        balance_after, settled_at, account_seq,
        wrong IS NULL AND (status = 'FAILED' OR NOT behind_a_wrong_one) AS bookable,
        CASE WHEN behind_a_wrong_one AND NOT taken AND status = 'SUCCESS'
            THEN 'an earlier movement of its account can''t be booked' ELSE wrong END AS why
    FROM followed";

const BOOK: &str = "
    INSERT INTO accounts (account_id, currency)
    SELECT DISTINCT ON (account_id) account_id, currency FROM plan WHERE bookable
    -- An account has the currency of its first movement; one in another was refused.
    ORDER BY account_id, reason IS NOT DISTINCT FROM 'CURRENCY_MISMATCH', transaction_id
    ON CONFLICT DO NOTHING;

    UPDATE accounts SET balance = last.balance_after, account_seq = last.account_seq, updated_at = now()
    FROM (
        SELECT DISTINCT ON (account_id) account_id, balance_after, account_seq FROM plan
        WHERE bookable AND status = 'SUCCESS' ORDER BY account_id, transaction_id DESC
    ) AS last
    WHERE accounts.account_id = last.account_id;

    INSERT INTO transactions (id, record_id, account_id, type, amount, currency, status, reason,
        balance_after, account_seq, created_at)
    OVERRIDING SYSTEM VALUE
    SELECT transaction_id, record_id, account_id, type, amount, currency, status, reason,
        balance_after, CASE WHEN status = 'SUCCESS' THEN account_seq END, settled_at
    FROM plan WHERE bookable;

    -- No number is given twice, also not one that could not be booked, or one that was given and
    -- rolled back. This alone stays where the rest is rolled back.
    SELECT setval(pg_get_serial_sequence('transactions', 'id'), highest)
    FROM (
        SELECT max(id) AS highest
        FROM (
            SELECT id FROM transactions UNION ALL SELECT transaction_id FROM told
            UNION ALL SELECT last_value FROM transactions_id_seq WHERE is_called
        ) AS given
    ) AS given
    WHERE highest IS NOT NULL";

impl Outcome {
    fn print(&self, format: Output) -> Result<()> {
        if format == Output::Json {
            return output::json(self);
        }
        let Self { compared, booked, accounts, done, left } = self;
        let verb = if *done { "were" } else { "would be" };
        output::line(&format!(
            "{compared} settled records compared: {booked} outcomes {verb} booked again, in \
             {accounts} accounts; {} can't be",
            left.len()
        ))?;
        if !left.is_empty() {
            output::table(
                &["RECORD", "ACCOUNT", "TRANSACTION", "STATUS", "WHY"],
                left.iter().map(|it| {
                    let (record, account) = (it.record_id.to_string(), it.account_id.to_string());
                    let number = it.transaction_id.to_string();
                    vec![record, account, number, it.status.clone(), it.why.clone()]
                }),
            )?;
        }
        if !done && *booked > 0 {
            output::line("nothing was changed: --yes does it")?;
        }
        Ok(())
    }
}
