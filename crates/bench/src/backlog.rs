//! A backlog of commands, as after an outage of the transaction-service.

use anyhow::{Context, Result};
use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self,
        consumer::{Consumer, pull},
        message::PublishMessage,
    },
};
use contract::{Amount, Command, Currency, Kind, RecordId, TRANSACTION, UserId, consumers};
use futures::{StreamExt, TryStreamExt, stream};
use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{nats, stack::Stack, wait::until};

pub(crate) const TRANSACTION_SERVICE: &str = "transaction-service";
/// Records per INSERT.
const CHUNK: usize = 10_000;
/// Maximum number of commands without a PubAck.
const IN_FLIGHT: usize = 2_000;

/// The records of the waiting commands.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// The lowest record id.
    pub(crate) first: Uuid,
    /// The highest record id.
    pub(crate) last: Uuid,
    pub(crate) count: u64,
}

/// Freezes the transaction-services, and adds `number` deposits for them:
/// PENDING records, and their commands in the stream. The services stay frozen.
pub(crate) async fn create(stack: &Stack, accounts: &[String], number: usize) -> Result<Backlog> {
    let broker = nats::connect(&stack.file).await?;
    stack.signal(TRANSACTION_SERVICE, usize::MAX, Signal::SIGSTOP)?;
    fetches_ended(&broker).await?;
    let accounts = accounts.iter().map(|id| id.parse()).collect::<Result<Vec<_>, _>>()?;
    let teller = UserId::try_from("teller".to_owned())?;
    let currency = Currency::parse("KRW")?;
    let amount = Amount::parse("100", currency)?;
    let commands: Vec<_> = accounts
        .iter()
        .cycle()
        .take(number)
        .map(|&account_id| Command {
            record_id: RecordId::new(),
            account_id,
            user_id: teller.clone(),
            kind: Kind::Deposit,
            amount,
            currency,
            requested_at: OffsetDateTime::now_utc(),
        })
        .collect();
    let ids = commands.iter().map(|command| command.record_id.as_uuid());
    let (first, last) = (ids.clone().min(), ids.max());
    let mut database = PgConnection::connect(&stack.file.databases.account).await?;
    for chunk in commands.chunks(CHUNK) {
        insert(&mut database, chunk).await?;
    }
    publish(&broker, &commands).await?;
    let count = u64::try_from(commands.len())?;
    let empty = "a backlog needs at least one command";
    Ok(Backlog { first: first.context(empty)?, last: last.context(empty)?, count })
}

/// Waits until no worker's fetch is open.
async fn fetches_ended(broker: &jetstream::Context) -> Result<()> {
    until("the end of all open fetches", async || {
        let consumer: Consumer<pull::Config> =
            broker.get_consumer_from_stream(consumers::DEPOSIT, TRANSACTION).await?;
        Ok(consumer.cached_info().num_waiting == 0)
    })
    .await
}

async fn insert(database: &mut PgConnection, commands: &[Command]) -> Result<()> {
    let ids: Vec<Uuid> = commands.iter().map(|command| command.record_id.as_uuid()).collect();
    let accounts: Vec<Uuid> = commands.iter().map(|command| command.account_id.as_uuid()).collect();
    sqlx::query(
        "INSERT INTO transaction_records
             (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency)
         SELECT id, account_id, id::text, sha256(id::text::bytea), 'teller', 'DEPOSIT', 100, 'KRW'
         FROM unnest($1::uuid[], $2::uuid[]) AS waiting (id, account_id)",
    )
    .bind(ids)
    .bind(accounts)
    .execute(database)
    .await?;
    Ok(())
}

async fn publish(broker: &jetstream::Context, commands: &[Command]) -> Result<()> {
    stream::iter(commands)
        .map(|command| async move {
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, command.record_id.to_string().as_str());
            let body = serde_json::to_vec(command)?;
            let message = PublishMessage::build().payload(body.into()).headers(headers);
            broker.send_publish(command.kind.command_subject(), message).await?.await?;
            anyhow::Ok(())
        })
        .buffered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

/// Waits until the command stream is empty.
pub(crate) async fn drained(broker: &jetstream::Context) -> Result<()> {
    let mut stream = broker.get_stream(TRANSACTION).await?;
    until("an empty command stream", async || Ok(stream.info().await?.state.messages == 0)).await
}
