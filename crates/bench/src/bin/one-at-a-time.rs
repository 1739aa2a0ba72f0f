//! The baseline: a ledger with one message at a time. It fetches ten commands.
//! For each, it checks for an earlier decision, begins, locks the account,
//! writes balance and transaction, commits, publishes the result and awaits its
//! PubAck, then acks. It uses the real tables and streams, so its results settle
//! records.
//!
//! This is correct, and the usual design. No part of Passbook works this way.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::{
    ConnectOptions, HeaderMap, ServerAddr,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self, Message,
        consumer::{Consumer, pull},
        message::PublishMessage,
    },
};
use clap::Parser;
use contract::{Balance, Command, Outcome, TRANSACTION, TransactionResult, consumers};
use futures::StreamExt;
use sqlx::{Connection as _, PgConnection, types::Decimal};
use time::OffsetDateTime;

/// Messages per fetch.
const FETCH: usize = 10;
const FETCH_WAIT: Duration = Duration::from_secs(2);

/// Process commands one at a time, and print the rate per second.
#[derive(Debug, Parser)]
struct Arguments {
    /// Number of commands.
    #[arg(long)]
    messages: u64,
    /// URL of the transaction database.
    #[arg(long, env = "PASSBOOK_TRANSACTION_DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// URL of NATS, with user and password.
    #[arg(long, env = "PASSBOOK_NATS_URL", hide_env_values = true)]
    nats_url: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments { messages, database_url, nats_url } = Arguments::parse();
    let mut database = PgConnection::connect(&database_url).await?;
    let broker = broker(&nats_url).await?;
    let consumer: Consumer<pull::Config> =
        broker.get_consumer_from_stream(consumers::DEPOSIT, TRANSACTION).await?;
    let (begun, mut done) = (Instant::now(), 0);
    while done < messages {
        let fetch = consumer.fetch().max_messages(FETCH).expires(FETCH_WAIT);
        let mut batch = fetch.messages().await?;
        let before = done;
        while let Some(message) = batch.next().await {
            process(&mut database, &broker, &message.map_err(anyhow::Error::from_boxed)?).await?;
            done += 1;
        }
        ensure!(done > before, "only {done} of {messages} commands arrived within {FETCH_WAIT:?}");
    }
    println!("{}", f64::from(u32::try_from(done)?) / begun.elapsed().as_secs_f64());
    Ok(())
}

async fn broker(url: &str) -> Result<jetstream::Context> {
    let server: ServerAddr = url.split(',').next().unwrap_or_default().parse()?;
    let credentials = server.username().zip(server.password());
    let (user, password) = credentials.context("the NATS URL has no user and password")?;
    let options = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
    Ok(jetstream::new(options.connect(server).await?))
}

async fn process(
    database: &mut PgConnection,
    broker: &jetstream::Context,
    message: &Message,
) -> Result<()> {
    let command: Command = serde_json::from_slice(&message.payload)?;
    let exists =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM transactions WHERE record_id = $1)");
    if !exists.bind(command.record_id.as_uuid()).fetch_one(&mut *database).await? {
        let result = apply(database, &command).await?;
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, command.record_id.to_string().as_str());
        let body = serde_json::to_vec(&result)?;
        let outgoing = PublishMessage::build().payload(body.into()).headers(headers);
        broker.send_publish(command.kind.result_subject(), outgoing).await?.await?;
    }
    message.ack().await.map_err(anyhow::Error::from_boxed)
}

async fn apply(database: &mut PgConnection, command: &Command) -> Result<TransactionResult> {
    let mut transaction = database.begin().await?;
    let account = command.account_id.as_uuid();
    let locked = "SELECT balance, account_seq FROM accounts WHERE account_id = $1 FOR UPDATE";
    let row: Option<(Decimal, i64)> =
        sqlx::query_as(locked).bind(account).fetch_optional(&mut *transaction).await?;
    let (balance, seq) = match row {
        Some(row) => row,
        None => {
            sqlx::query("INSERT INTO accounts (account_id, currency) VALUES ($1, $2)")
                .bind(account)
                .bind(command.currency.code())
                .execute(&mut *transaction)
                .await?;
            (Decimal::ZERO, 0)
        }
    };
    let (balance, account_seq) = (balance + command.amount.as_decimal(), seq + 1);
    sqlx::query(
        "UPDATE accounts SET balance = $2, account_seq = $3, updated_at = now()
         WHERE account_id = $1",
    )
    .bind(account)
    .bind(balance)
    .bind(account_seq)
    .execute(&mut *transaction)
    .await?;
    let (transaction_id, processed_at): (i64, OffsetDateTime) = sqlx::query_as(
        "INSERT INTO transactions
             (record_id, account_id, type, amount, currency, status, balance_after, account_seq)
         VALUES ($1, $2, $3, $4, $5, 'SUCCESS', $6, $7) RETURNING id, created_at",
    )
    .bind(command.record_id.as_uuid())
    .bind(account)
    .bind(command.kind.as_str())
    .bind(command.amount.as_decimal())
    .bind(command.currency.code())
    .bind(balance)
    .bind(account_seq)
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let balance_after =
        Balance::from_decimal(balance, command.currency).context("the balance is out of bounds")?;
    Ok(TransactionResult {
        record_id: command.record_id,
        transaction_id,
        account_id: command.account_id,
        kind: command.kind,
        amount: command.amount,
        currency: command.currency,
        outcome: Outcome::Applied { balance_after, account_seq },
        processed_at,
    })
}
