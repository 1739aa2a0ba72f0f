//! How many records are settled: told by the replicas' counters while it goes
//! on, and by the database in the end.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use contract::RecordId;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{Target, connection::Connection, request::METRICS};

const COUNTER: &str = "passbook_records_settled_total";
/// Longer than a busy replica takes to tell its counters.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the counters.
#[derive(Debug)]
pub struct Counters {
    admins: Vec<Connection>,
    at_start: u64,
}

impl Counters {
    /// Counts from now on.
    ///
    /// # Errors
    /// When a replica does not tell.
    pub async fn begin(target: &Target) -> Result<Self> {
        let mut admins = Vec::new();
        for address in &target.admins {
            admins.push(Connection::open(*address).await.context("an admin port")?);
        }
        let mut counters = Self { admins, at_start: 0 };
        counters.at_start = counters.settled().await?;
        Ok(counters)
    }

    /// Records settled by all replicas since then.
    ///
    /// # Errors
    /// When a replica does not tell, or was started again and forgot.
    pub async fn settled(&mut self) -> Result<u64> {
        let mut sum = 0;
        for admin in &mut self.admins {
            let asked = tokio::time::timeout(PATIENCE, admin.exchange(METRICS)).await;
            let answer = asked.context("a replica does not tell its counters")??;
            sum += read(&String::from_utf8_lossy(answer.body));
        }
        sum.checked_sub(self.at_start).context("a replica was started again meanwhile")
    }
}

fn read(metrics: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(COUNTER)?.rsplit(' ').next()?.parse::<u64>().ok();
    metrics.lines().filter_map(value).sum()
}

/// What the account database says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    /// Records.
    pub records: u64,
    /// Those that are PENDING.
    pub pending: u64,
    /// Those that are FAILED.
    pub refused: u64,
}

/// Looks at the records of these accounts that were made since then.
///
/// # Errors
/// The database's.
pub async fn books_since(target: &Target, accounts: &[String], since: SystemTime) -> Result<Books> {
    let ids: Vec<Uuid> = accounts.iter().map(|id| id.parse()).collect::<Result<_, _>>()?;
    let mut database = PgConnection::connect(&target.database).await?;
    let counted: (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE status = 'PENDING'),
                count(*) FILTER (WHERE status = 'FAILED')
         FROM transaction_records JOIN unnest($2) AS account (account_id) USING (account_id)
         WHERE id >= $1",
    )
    .bind(RecordId::lowest_at(since).as_uuid())
    .bind(&ids)
    .fetch_one(&mut database)
    .await?;
    database.close().await?;
    let [records, pending, refused] =
        [counted.0, counted.1, counted.2].map(|it| u64::try_from(it).unwrap_or_default());
    Ok(Books { records, pending, refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_with_and_without_labels() {
        let metrics = "# TYPE passbook_records_settled_total counter\n\
                       passbook_records_settled_total 12\n\
                       passbook_records_accepted_total{type=\"DEPOSIT\"} 40\n\
                       passbook_records_settled_total{a=\"b c\"} 3\n";
        assert_eq!(read(metrics), 15);
    }
}
