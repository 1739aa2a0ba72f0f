//! Counts settled records: from the replicas' counters during a run, and from
//! the database at its end. From outside, the API counts them.

use std::time::{Duration, SystemTime};

use ::client::{RecordFilter, Status};
use anyhow::{Context, Result};
use contract::{AccountId, RecordId};
use runtime::postgres::{self, parse_url};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::{Target, connection::Connection, request::METRICS};

const COUNTER: &str = "passbook_records_settled_total";
/// Records of a page: the maximum of the API.
const PAGE: u32 = 100;
/// Time limit for the metrics of a busy replica.
const METRICS_LIMIT: Duration = Duration::from_secs(10);
/// Time limit for counting the records, which reads those of the run.
const COUNT_LIMIT: Duration = Duration::from_secs(300);

/// The settled records according to the replicas' counters.
#[derive(Debug)]
pub struct SettledCounters {
    admins: Vec<Connection>,
    at_start: u64,
}

impl SettledCounters {
    /// Starts to count.
    ///
    /// # Errors
    /// A replica's admin port does not respond.
    pub async fn begin(target: &Target) -> Result<Self> {
        let mut admins = Vec::new();
        for address in &target.admins {
            let connection = Connection::open(*address).await;
            let context = || format!("connecting to the admin port {address}");
            admins.push(connection.with_context(context)?);
        }
        let mut counters = Self { admins, at_start: 0 };
        counters.at_start = counters.settled().await?;
        Ok(counters)
    }

    /// Records settled by all replicas since the start.
    ///
    /// # Errors
    /// A replica's admin port does not respond, or a replica has restarted and
    /// lost its count.
    pub async fn settled(&mut self) -> Result<u64> {
        let mut sum = 0;
        for admin in &mut self.admins {
            let response = tokio::time::timeout(METRICS_LIMIT, admin.exchange(METRICS)).await;
            let context = || format!("an admin port sent no metrics within {METRICS_LIMIT:?}");
            let response = response.with_context(context)??;
            sum += parse(&String::from_utf8_lossy(response.body));
        }
        sum.checked_sub(self.at_start).context("a replica restarted and lost its settled counter")
    }
}

fn parse(metrics: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(COUNTER)?.rsplit(' ').next()?.parse::<u64>().ok();
    metrics.lines().filter_map(value).sum()
}

/// Records in the account database, by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordCounts {
    /// Records of any status.
    pub total: u64,
    /// PENDING records.
    pub pending: u64,
    /// FAILED records.
    pub refused: u64,
}

impl RecordCounts {
    /// These records without the `earlier` ones.
    pub(crate) const fn without(self, earlier: Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            pending: self.pending,
            refused: self.refused.saturating_sub(earlier.refused),
        }
    }
}

/// Counts the records of these accounts, from the time `since` on. Without a
/// database, it counts all of them: the clocks may differ.
///
/// # Errors
/// The database query failed, the API did not respond with the records, or an
/// account id is invalid.
pub async fn count_records(
    target: &Target,
    accounts: &[String],
    since: SystemTime,
) -> Result<RecordCounts> {
    match &target.database {
        Some(database) => count_in_database(database, accounts, since).await,
        None => count_in_api(target, accounts).await,
    }
}

async fn count_in_api(target: &Target, accounts: &[String]) -> Result<RecordCounts> {
    let client = target.clients()?.into_iter().next().context("the API has no address")?;
    let filter = RecordFilter { limit: Some(PAGE), ..RecordFilter::default() };
    let mut counts = RecordCounts::default();
    for account in accounts {
        let (account, mut cursor): (AccountId, _) = (account.parse()?, None);
        loop {
            let page = client.records(account, &filter, cursor.as_deref()).await;
            let page = page.context("listing records")?;
            for record in page.items {
                counts.total += 1;
                counts.pending += u64::from(record.status == Status::Pending);
                counts.refused += u64::from(record.status == Status::Failed);
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(counts)
}

async fn count_in_database(
    database: &str,
    accounts: &[String],
    since: SystemTime,
) -> Result<RecordCounts> {
    let ids: Vec<Uuid> = accounts.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
    let options = parse_url(database).context("the URL of the database")?;
    let mut database = postgres::connect(&options.application_name("passbook load")).await?;
    let counts = sqlx::query_as::<_, (i64, i64, i64)>(
        "SELECT count(*), count(*) FILTER (WHERE status = 'PENDING'),
                count(*) FILTER (WHERE status = 'FAILED')
         FROM transaction_records JOIN unnest($2) AS account (account_id) USING (account_id)
         WHERE id >= $1",
    )
    .bind(RecordId::lowest_at(since).as_uuid())
    .bind(&ids)
    .fetch_one(&mut database);
    let counts = tokio::time::timeout(COUNT_LIMIT, counts).await;
    let counts = counts.with_context(|| format!("no answer within {COUNT_LIMIT:?}"))??;
    database.close().await?;
    let [total, pending, refused] =
        [counts.0, counts.1, counts.2].map(|count| u64::try_from(count).unwrap_or_default());
    Ok(RecordCounts { total, pending, refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_parsed_with_and_without_labels() {
        let metrics = "# TYPE passbook_records_settled_total counter\n\
                       passbook_records_settled_total 12\n\
                       passbook_records_accepted_total{type=\"DEPOSIT\"} 40\n\
                       passbook_records_settled_total{a=\"b c\"} 3\n";
        assert_eq!(parse(metrics), 15);
    }
}
