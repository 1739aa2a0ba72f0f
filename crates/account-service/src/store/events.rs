//! Reads the event log.
//!
//! The comparisons of rows leave the planner the index on accounts and positions only. With
//! `account_id = $1`, it may expect to find an account's events soon by the primary key, and read
//! those of everybody.

use std::collections::HashMap;

use contract::{AccountId, RecordId, UserId};
use sqlx::{PgExecutor, types::Uuid};
use time::OffsetDateTime;

use super::StoreError;
use crate::events::{EventKind, LoggedEvent};

struct EventRow {
    position: i64,
    sequence: i64,
    kind: i16,
    account_id: Uuid,
    owner_id: String,
    record_id: Option<Uuid>,
    created_at: OffsetDateTime,
}

impl TryFrom<EventRow> for LoggedEvent {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self, StoreError> {
        let EventRow { position, sequence, kind, account_id, owner_id, record_id, created_at } =
            row;
        let owner = owner_id.try_into();
        let owner = owner.map_err(|_| StoreError::InvalidRow(format!("event {position}")))?;
        let event = UnownedEvent { position, sequence, kind, account_id, record_id, created_at };
        event.owned_by(owner)
    }
}

/// An event of the log, without the owner of its account.
#[derive(Debug)]
pub struct UnownedEvent {
    position: i64,
    sequence: i64,
    kind: i16,
    account_id: Uuid,
    record_id: Option<Uuid>,
    created_at: OffsetDateTime,
}

impl UnownedEvent {
    /// The account.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        AccountId::from_uuid(self.account_id)
    }

    /// The event, of an account of this owner.
    ///
    /// # Errors
    /// [`StoreError::InvalidRow`]
    pub fn owned_by(self, owner: UserId) -> Result<LoggedEvent, StoreError> {
        let invalid = || StoreError::InvalidRow(format!("event {}", self.position));
        Ok(LoggedEvent {
            position: self.position,
            sequence: self.sequence,
            kind: EventKind::from_code(self.kind).ok_or_else(invalid)?,
            account: self.account(),
            owner,
            record: self.record_id.map(RecordId::from_uuid),
            created_at: self.created_at,
        })
    }
}

fn events(rows: Vec<EventRow>) -> Result<Vec<LoggedEvent>, StoreError> {
    rows.into_iter().map(LoggedEvent::try_from).collect()
}

/// Part of the log: the positions above `after`, up to `to`, and how many events at most.
///
/// With `known`, nothing is listed unless the log has this event. If it is the one at the horizon,
/// a promoted standby that lacks it lists nothing: there, transactions may run below the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    pub after: i64,
    pub to: i64,
    pub known: Option<EventMark>,
    pub limit: u16,
}

impl LogRange {
    /// The position, the account and the time of `known`, as parameters.
    fn known(&self) -> (Option<i64>, Option<Uuid>, Option<OffsetDateTime>) {
        let known = self.known;
        let account = known.map(|event| event.account.as_uuid());
        (known.map(|event| event.position), account, known.map(|event| event.created_at))
    }
}

/// The events of all accounts, by position. A reader that follows the log knows most owners.
///
/// # Errors
/// [`StoreError`]
pub async fn list_events(
    database: impl PgExecutor<'_>,
    range: LogRange,
) -> Result<Vec<UnownedEvent>, StoreError> {
    let (known, account, created_at) = range.known();
    let rows = sqlx::query_as!(
        UnownedEvent,
        "SELECT position, sequence, type AS kind, account_id, record_id, created_at
         FROM events
         WHERE position > $1 AND position <= $2
             AND ($4::bigint IS NULL OR EXISTS (
                 SELECT FROM events WHERE position = $4 AND account_id = $5 AND created_at = $6))
         ORDER BY position LIMIT $3",
        range.after,
        range.to,
        i64::from(range.limit),
        known,
        account,
        created_at,
    );
    Ok(rows.fetch_all(database).await?)
}

/// The events of an account, by position.
///
/// # Errors
/// [`StoreError`]
pub async fn list_events_of_account(
    database: impl PgExecutor<'_>,
    account: AccountId,
    range: LogRange,
) -> Result<Vec<LoggedEvent>, StoreError> {
    let (known, its_account, created_at) = range.known();
    let rows = sqlx::query_as!(
        EventRow,
        "SELECT position, sequence, type AS kind, e.account_id, owner_id, record_id, e.created_at
         FROM (SELECT * FROM events
               WHERE (account_id, position) > ($1, $2) AND (account_id, position) <= ($1, $3)
                   AND ($5::bigint IS NULL OR EXISTS (
                       SELECT FROM events
                       WHERE position = $5 AND account_id = $6 AND created_at = $7))
               ORDER BY account_id, position LIMIT $4) AS e
             JOIN accounts USING (account_id)
         ORDER BY position",
        account.as_uuid(),
        range.after,
        range.to,
        i64::from(range.limit),
        known,
        its_account,
        created_at,
    );
    events(rows.fetch_all(database).await?)
}

/// The events of an owner's accounts, by position. It looks up the next event of each account, and
/// reads those accounts whose next events are the first ones: for owners of not too many accounts
/// ([`has_more_accounts`]).
///
/// # Errors
/// [`StoreError`]
pub async fn list_events_of_owner(
    database: impl PgExecutor<'_>,
    owner: &UserId,
    range: LogRange,
) -> Result<Vec<LoggedEvent>, StoreError> {
    let (known, account, created_at) = range.known();
    let rows = sqlx::query_as!(
        EventRow,
        r#"SELECT position AS "position!", sequence AS "sequence!", type AS "kind!",
                  account_id AS "account_id!", owner_id AS "owner_id!", record_id,
                  created_at AS "created_at!"
           FROM (SELECT owner_id, next.account_id AS next_id
                 FROM accounts AS a CROSS JOIN LATERAL (
                     SELECT account_id, position FROM events
                     WHERE (account_id, position) > (a.account_id, $2)
                         AND (account_id, position) <= (a.account_id, $3)
                     ORDER BY account_id, position LIMIT 1) AS next
                 WHERE owner_id = $1
                     AND ($5::bigint IS NULL OR EXISTS (
                         SELECT FROM events
                         WHERE position = $5 AND account_id = $6 AND created_at = $7))
                 ORDER BY position LIMIT $4) AS first
               CROSS JOIN LATERAL (
                   SELECT * FROM events
                   WHERE (account_id, position) > (next_id, $2)
                       AND (account_id, position) <= (next_id, $3)
                   ORDER BY account_id, position LIMIT $4) AS e
           ORDER BY position LIMIT $4"#,
        owner.as_str(),
        range.after,
        range.to,
        i64::from(range.limit),
        known,
        account,
        created_at,
    );
    events(rows.fetch_all(database).await?)
}

/// The event at a position.
///
/// # Errors
/// [`StoreError`]
pub async fn find_event(
    database: impl PgExecutor<'_>,
    position: i64,
) -> Result<Option<LoggedEvent>, StoreError> {
    let row = sqlx::query_as!(
        EventRow,
        "SELECT position, sequence, type AS kind, account_id, owner_id, record_id, e.created_at
         FROM events AS e JOIN accounts USING (account_id) WHERE position = $1",
        position,
    );
    row.fetch_optional(database).await?.map(LoggedEvent::try_from).transpose()
}

/// The events at these positions, by position. Those that do not exist are left out.
///
/// # Errors
/// [`StoreError`]
pub async fn find_events(
    database: impl PgExecutor<'_>,
    positions: &[i64],
) -> Result<HashMap<i64, LoggedEvent>, StoreError> {
    let rows = sqlx::query_as!(
        EventRow,
        "SELECT position, sequence, type AS kind, account_id, owner_id, record_id, e.created_at
         FROM events AS e JOIN accounts USING (account_id) WHERE position = ANY($1)",
        positions,
    );
    let events = events(rows.fetch_all(database).await?)?;
    Ok(events.into_iter().map(|event| (event.position, event)).collect())
}

/// Tells an event from another one that a promoted standby has at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventMark {
    pub position: i64,
    pub account: AccountId,
    pub created_at: OffsetDateTime,
}

impl From<&LoggedEvent> for EventMark {
    fn from(event: &LoggedEvent) -> Self {
        let LoggedEvent { position, account, created_at, .. } = *event;
        Self { position, account, created_at }
    }
}

/// The end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The event with the highest committed position.
    pub newest: Option<EventMark>,
    /// A new transaction id, if it was asked for and `newest` is above the event that the caller
    /// knows: higher than the ids of all transactions that have taken positions up to `newest`.
    pub fence: Option<i64>,
    /// Whether the log has the event that the caller knows.
    pub has_known: bool,
}

/// The end of the log, with a fence if `takes_fence`. The highest position is that of the snapshot,
/// which is older than the id.
///
/// # Errors
/// [`StoreError`]
pub async fn find_log_end(
    database: impl PgExecutor<'_>,
    known: Option<EventMark>,
    takes_fence: bool,
) -> Result<LogEnd, StoreError> {
    let end = sqlx::query!(
        r#"SELECT newest.position AS "position?", newest.account_id AS "account_id?",
                  newest.created_at AS "created_at?",
                  CASE WHEN $4 AND newest.position > $1 THEN pg_current_xact_id()::text::bigint END
                      AS fence,
                  ($1 = 0 OR EXISTS (
                      SELECT FROM events
                      WHERE position = $1 AND account_id = $2 AND created_at = $3)) AS "has_known!"
           FROM (VALUES (true)) AS one (row) LEFT JOIN (
               SELECT position, account_id, created_at FROM events ORDER BY position DESC LIMIT 1
           ) AS newest ON true"#,
        known.map_or(0, |event| event.position),
        known.map(|event| event.account.as_uuid()),
        known.map(|event| event.created_at),
        takes_fence,
    )
    .fetch_one(database)
    .await?;
    let newest = end.position.zip(end.account_id).zip(end.created_at);
    let newest = newest.map(|((position, account), created_at)| EventMark {
        position,
        account: AccountId::from_uuid(account),
        created_at,
    });
    Ok(LogEnd { newest, fence: end.fence, has_known: end.has_known })
}

/// What has become of a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FenceState {
    /// All transactions with ids below this one have ended.
    pub ended_below: i64,
    /// The id after the last ended transaction.
    pub next_id: i64,
    /// Whether the log has the event that was the newest one when the fence was taken.
    pub has_event: bool,
}

/// What has become of the fence that was taken when this event was the newest one.
///
/// # Errors
/// [`StoreError`]
pub async fn find_fence(
    database: impl PgExecutor<'_>,
    newest: EventMark,
) -> Result<FenceState, StoreError> {
    let state = sqlx::query_as!(
        FenceState,
        r#"SELECT pg_snapshot_xmin(now)::text::bigint AS "ended_below!",
                  pg_snapshot_xmax(now)::text::bigint AS "next_id!",
                  EXISTS (SELECT FROM events
                          WHERE position = $1 AND account_id = $2 AND created_at = $3)
                      AS "has_event!"
           FROM pg_current_snapshot() AS now"#,
        newest.position,
        newest.account.as_uuid(),
        newest.created_at,
    );
    Ok(state.fetch_one(database).await?)
}

/// Whether this owner has more accounts than that.
///
/// # Errors
/// [`StoreError`]
pub async fn has_more_accounts(
    database: impl PgExecutor<'_>,
    owner: &UserId,
    than: u16,
) -> Result<bool, StoreError> {
    let has_more = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM accounts WHERE owner_id = $1
                          ORDER BY account_id DESC OFFSET $2) AS "has_more!""#,
        owner.as_str(),
        i64::from(than),
    );
    Ok(has_more.fetch_one(database).await?)
}

/// The key of the ids of events.
///
/// # Errors
/// [`StoreError`]
pub async fn find_event_id_key(database: impl PgExecutor<'_>) -> Result<Vec<u8>, StoreError> {
    Ok(sqlx::query_scalar!("SELECT key FROM event_id_key WHERE only_row")
        .fetch_one(database)
        .await?)
}
