//! Checks the event log: the numbers of each account's events, and the records that they name.
//!
//! One snapshot has the accounts, the records and the events: a statement that settles a record
//! also writes its event.

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::{
    Error, Progress, balances::account, check::Finding, dated::in_the_future, findings::Findings,
    records::record_subject, rows, sources::Connections,
};

/// The types of events, as the database has them.
const CREATED: i16 = 1;
const SUCCEEDED: i16 = 2;
const FAILED: i16 = 3;

/// An account with one of its events, if it has any.
#[derive(Debug, FromRow)]
struct EventRow {
    account_id: Uuid,
    /// The account's number of events.
    event_seq: i64,
    sequence: Option<i64>,
    r#type: Option<i16>,
    names_record: bool,
    /// In seconds.
    age: Option<i64>,
}

/// A record that does not have the one event that it should have, or the events of a record that
/// does not exist.
#[derive(Debug, FromRow)]
struct UnsoundRecord {
    record_id: Uuid,
    /// `None` if the record does not exist.
    status: Option<String>,
    account_id: Option<Uuid>,
    /// The number of equal events of the record; `None` if it has none.
    events: Option<i64>,
    event_account_id: Option<Uuid>,
    r#type: Option<i16>,
}

/// Checks the events of each account, and the event of each record.
///
/// # Errors
/// When the database can't be read.
pub(crate) async fn compare(
    connections: &mut Connections,
    progress: &mut (dyn FnMut(Progress) + Send),
    findings: &mut Findings,
) -> Result<(), Error> {
    compare_numbers(&mut connections.accounts, progress, findings)
        .await
        .map_err(Error::Accounts)?;
    compare_records(&mut connections.accounts, findings).await.map_err(Error::Accounts)
}

/// Reads the events of each account in the order of the log, which is that of their numbers.
async fn compare_numbers(
    accounts: &mut PgConnection,
    progress: &mut (dyn FnMut(Progress) + Send),
    findings: &mut Findings,
) -> sqlx::Result<()> {
    let mut rows = sqlx::query_as::<_, EventRow>(
        "SELECT a.account_id, a.event_seq, e.sequence, e.type,
                e.record_id IS NOT NULL AS names_record,
                extract(epoch FROM now() - e.created_at)::bigint AS age
         FROM accounts a LEFT JOIN events e ON e.account_id = a.account_id
         ORDER BY a.account_id, e.position",
    )
    .fetch(accounts);
    let mut row = rows::next(&mut rows).await?;
    let mut done = 0;
    while let Some(first) = row.take() {
        let (id, event_seq) = (first.account_id, first.event_seq);
        let mut events = AccountEvents::default();
        let mut last = first;
        loop {
            if events.add(&last) {
                findings.announced.count(None);
                let age = last.age.unwrap_or_default();
                findings.dated.count(in_the_future(age, || last.subject()));
                done += 1;
                progress(Progress::Events(done));
            }
            row = rows::next(&mut rows).await?;
            match row.take_if(|row| row.account_id == id) {
                Some(next) => last = next,
                None => break,
            }
        }
        if let Some(detail) = events.finish(event_seq) {
            findings.announced.count(Some(Finding::new(account(id), detail)));
        }
    }
    Ok(())
}

impl EventRow {
    /// The subject of a finding.
    fn subject(&self) -> String {
        let sequence = self.sequence.unwrap_or_default();
        format!("event {sequence} of {}", account(self.account_id))
    }
}

/// The events of an account so far.
#[derive(Debug, Default)]
struct AccountEvents {
    count: i64,
    /// What is wrong with the first unsound event.
    finding: Option<String>,
}

impl AccountEvents {
    /// Adds the event of a row. False if the row has none.
    fn add(&mut self, row: &EventRow) -> bool {
        let (Some(sequence), Some(kind)) = (row.sequence, row.r#type) else { return false };
        self.count += 1;
        if self.finding.is_none() {
            self.finding = self.unsound(sequence, kind, row.names_record);
        }
        true
    }

    fn unsound(&self, sequence: i64, kind: i16, names_record: bool) -> Option<String> {
        if sequence != self.count {
            return Some(format!("should have event {}, but has event {sequence}", self.count));
        }
        let kind_name = name(kind);
        match (kind, names_record) {
            (CREATED, false) if sequence > 1 => {
                Some(format!("has {kind_name} as event {sequence}"))
            }
            (CREATED, true) => Some(format!("has a record in event {sequence}, {kind_name}")),
            (CREATED, false) => None,
            (_, false) => Some(format!("has no record in event {sequence}, {kind_name}")),
            (_, true) => None,
        }
    }

    /// What is wrong with the events of the account, if anything is.
    fn finish(self, event_seq: i64) -> Option<String> {
        let differs = event_seq != self.count;
        let detail = || format!("has {} events, but eventSeq {event_seq}", self.count);
        self.finding.or_else(|| differs.then(detail))
    }
}

/// Looks for records without their event, and for events without their record. The database
/// compares them: it sends the unsound ones only. Equal events are counted; two different ones of
/// a record can't both be right.
async fn compare_records(accounts: &mut PgConnection, findings: &mut Findings) -> sqlx::Result<()> {
    let mut rows = sqlx::query_as::<_, UnsoundRecord>(
        "SELECT coalesce(r.id, e.record_id) AS record_id, r.status, r.account_id, e.events,
                e.account_id AS event_account_id, e.type
         FROM transaction_records r FULL JOIN (
             SELECT record_id, account_id, type, count(*) AS events FROM events
             WHERE record_id IS NOT NULL GROUP BY record_id, account_id, type
         ) AS e ON e.record_id = r.id
         WHERE e.record_id IS NULL AND r.announced
             OR e.events > 1
             OR e.record_id IS NOT NULL AND (
                 e.account_id IS DISTINCT FROM r.account_id
                 OR e.type IS DISTINCT FROM
                     CASE r.status WHEN 'SUCCESS' THEN 2 WHEN 'FAILED' THEN 3 END)",
    )
    .fetch(accounts);
    while let Some(row) = rows::next(&mut rows).await? {
        let finding = Finding::new(record_subject(row.record_id), row.detail());
        findings.announced.count(Some(finding));
    }
    Ok(())
}

impl UnsoundRecord {
    fn detail(&self) -> String {
        let (Some(status), Some(account_id)) = (&self.status, self.account_id) else {
            return "has an event, but does not exist".to_owned();
        };
        let (Some(events), Some(event_account_id), Some(kind)) =
            (self.events, self.event_account_id, self.r#type)
        else {
            return format!("is {status}, but its event is missing");
        };
        if event_account_id != account_id {
            return format!(
                "is of account {account_id}, but its event is one of account {event_account_id}"
            );
        }
        let kind = name(kind);
        match events {
            1 => format!("is {status}, but its event is {kind}"),
            _ => format!("is {status}, and has {events} events {kind}"),
        }
    }
}

/// The name of a type of events in the API.
fn name(kind: i16) -> String {
    match kind {
        CREATED => "account.created".to_owned(),
        SUCCEEDED => "record.succeeded".to_owned(),
        FAILED => "record.failed".to_owned(),
        other => format!("type {other}"),
    }
}
