//! The figures of a period as sums that PostgreSQL computes.

use contract::Kind;
use report_document::{DayVolume, RefusalCount, Volume};
use runtime::postgres::PgPool;
use rust_decimal::Decimal;
use sqlx::Row;
use uuid::Uuid;

/// Sums over the rows of a period, whose bounds PostgreSQL computes.
pub(super) struct Sums<'a> {
    pub(super) database: &'a PgPool,
    pub(super) bounds: (&'a str, &'a str),
    pub(super) zone: &'a str,
}

impl Sums<'_> {
    async fn rows(&self, select: &str) -> Vec<sqlx::postgres::PgRow> {
        // A date is midnight in the zone. A time has its own offset.
        let bound = |name: &str| {
            format!(
                "CASE WHEN length({name}) = 10 THEN {name}::timestamp AT TIME ZONE $3
                 ELSE {name}::timestamptz END"
            )
        };
        let (from, to) = (bound("$1::text"), bound("$2::text"));
        let statement = format!(
            "WITH entry AS (
                 SELECT *, (created_at AT TIME ZONE $3)::date::text AS day
                 FROM reporting.transactions
                 WHERE created_at >= {from} AND created_at < {to}
             ), applied AS (SELECT * FROM entry WHERE status = 'SUCCESS')
             {select}"
        );
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(self.bounds.0)
            .bind(self.bounds.1)
            .bind(self.zone)
            .fetch_all(self.database)
            .await
            .unwrap()
    }

    pub(super) async fn days(&self) -> Vec<DayVolume> {
        let rows = self
            .rows(
                "SELECT day, type, currency, count(*), sum(amount) FROM applied
                 GROUP BY day, type, currency ORDER BY day, type, currency",
            )
            .await;
        let day =
            |row: &sqlx::postgres::PgRow| DayVolume { day: row.get(0), volume: volume(row, 1) };
        rows.iter().map(day).collect()
    }

    pub(super) async fn totals(&self) -> Vec<Volume> {
        let rows = self
            .rows(
                "SELECT type, currency, count(*), sum(amount) FROM applied
                 GROUP BY type, currency ORDER BY type, currency",
            )
            .await;
        rows.iter().map(|row| volume(row, 0)).collect()
    }

    pub(super) async fn refusals(&self) -> Vec<RefusalCount> {
        let rows = self
            .rows(
                "SELECT reason, type, count(*) FROM entry WHERE status = 'FAILED'
                 GROUP BY reason, type ORDER BY reason, type",
            )
            .await;
        let refusal = |row: &sqlx::postgres::PgRow| RefusalCount {
            reason: row.get(0),
            r#type: kind(row.get(1)),
            count: number(row.get(2)),
        };
        rows.iter().map(refusal).collect()
    }

    /// Currency, account, number, credits and debits.
    pub(super) async fn largest(&self) -> Vec<(String, Uuid, u64, Decimal, Decimal)> {
        let rows = self
            .rows(
                ", sums AS (
                     SELECT currency, account_id, count(*),
                         coalesce(sum(amount) FILTER (WHERE type = 'DEPOSIT'), 0) AS credits,
                         coalesce(sum(amount) FILTER (WHERE type = 'WITHDRAWAL'), 0) AS debits
                     FROM applied GROUP BY currency, account_id
                 ), ranked AS (
                     SELECT *, row_number() OVER (PARTITION BY currency
                         ORDER BY credits + debits DESC, account_id) AS rank
                     FROM sums
                 )
                 SELECT currency, account_id, count, credits, debits FROM ranked
                 WHERE rank <= 10 ORDER BY currency, rank",
            )
            .await;
        let account = |row: &sqlx::postgres::PgRow| {
            (row.get(0), row.get(1), number(row.get(2)), row.get(3), row.get(4))
        };
        rows.iter().map(account).collect()
    }

    /// Number, median, 90th and 99th percentile, longest, in milliseconds.
    pub(super) async fn settlement(&self) -> [u64; 5] {
        let rows = self
            .rows(
                ", waits AS (
                     SELECT greatest(0, extract(epoch FROM date_trunc('milliseconds', created_at)
                         - requested_at) * 1000)::bigint AS ms
                     FROM entry WHERE requested_at IS NOT NULL
                 )
                 SELECT count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY ms),
                     percentile_disc(0.9) WITHIN GROUP (ORDER BY ms),
                     percentile_disc(0.99) WITHIN GROUP (ORDER BY ms), max(ms)
                 FROM waits",
            )
            .await;
        [0, 1, 2, 3, 4].map(|at| number(rows[0].get(at)))
    }

    /// The ids of entries whose exact score is above the limit, in order.
    pub(super) async fn unusual(&self, limit: f64) -> Vec<Uuid> {
        let rows = self
            .rows(&format!(
                ", logs AS (SELECT *, ln(amount::float8) AS log FROM applied),
                 medians AS (
                     SELECT currency, type, percentile_cont(0.5) WITHIN GROUP (ORDER BY log) AS median
                     FROM logs GROUP BY currency, type HAVING count(*) >= 20
                 ), mads AS (
                     SELECT currency, type, median,
                         percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(log - median)) AS mad
                     FROM logs JOIN medians USING (currency, type)
                     GROUP BY currency, type, median
                 )
                 SELECT record_id FROM logs JOIN mads USING (currency, type)
                 WHERE 0.6745 * (log - median) / mad > {limit} ORDER BY id"
            ))
            .await;
        rows.iter().map(|row| row.get(0)).collect()
    }
}

fn volume(row: &sqlx::postgres::PgRow, at: usize) -> Volume {
    Volume {
        r#type: kind(row.get(at)),
        currency: row.get(at + 1),
        count: number(row.get(at + 2)),
        amount: row.get(at + 3),
    }
}

fn kind(name: &str) -> Kind {
    Kind::parse(name).unwrap()
}

pub(super) fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap()
}
