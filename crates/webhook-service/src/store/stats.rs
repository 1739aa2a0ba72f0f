//! Figures about all endpoints, for the metrics.

use sqlx::PgExecutor;

use super::StoreError;

/// The endpoints by their state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointCounts {
    pub healthy: i64,
    /// Their last attempt failed.
    pub failing: i64,
    /// Disabled by a request.
    pub disabled: i64,
    /// Disabled by 410.
    pub gone: i64,
    /// Disabled after days of failures.
    pub given_up: i64,
}

/// # Errors
/// [`StoreError`]
pub async fn count_endpoints_by_state(
    database: impl PgExecutor<'_>,
) -> Result<EndpointCounts, StoreError> {
    let counts = sqlx::query_as!(
        EndpointCounts,
        r#"SELECT count(*) FILTER (WHERE enabled AND failing_since IS NULL) AS "healthy!",
                  count(*) FILTER (WHERE enabled AND failing_since IS NOT NULL) AS "failing!",
                  count(*) FILTER (WHERE disabled_because = 'request') AS "disabled!",
                  count(*) FILTER (WHERE disabled_because = 'gone') AS "gone!",
                  count(*) FILTER (WHERE disabled_because = 'failing') AS "given_up!"
           FROM webhook_endpoints"#
    );
    Ok(counts.fetch_one(database).await?)
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backlog {
    /// Deliveries that wait for a retry, counted up to 100,000.
    pub retries: i64,
    /// The age in seconds of the oldest event that waits for a retry, or for an endpoint whose
    /// last attempt failed.
    pub failing_age: f64,
    /// The age in seconds of the oldest event that was never tried, though its endpoint takes
    /// deliveries, or that is not announced yet.
    pub untried_age: f64,
    /// Keys that sign, and are not sealed with the present key.
    pub old_seals: i64,
}

/// `present` is the beginning of what the present key seals. Of the endpoints that have not got all
/// events, it looks at the hundred in each state that fail or were served longest ago. The next
/// event of an owner of more than a thousand accounts is searched among the next thousand of all;
/// the last one that is announced counts if it is not among them.
///
/// # Errors
/// [`StoreError`]
pub async fn find_backlog(
    database: impl PgExecutor<'_>,
    present: &[u8],
) -> Result<Backlog, StoreError> {
    let backlog = sqlx::query_as!(
        Backlog,
        r#"WITH behind AS (
               (SELECT owner_id, position, announced, true AS is_failing FROM webhook_endpoints
                WHERE enabled AND announced > position AND failing_since IS NOT NULL
                ORDER BY failing_since LIMIT 100)
               UNION ALL
               (SELECT owner_id, position, announced, false FROM webhook_endpoints
                WHERE enabled AND announced > position AND failing_since IS NULL
                ORDER BY not_before LIMIT 100)
           ), next AS (
               SELECT is_failing, CASE
                   WHEN owner_id IS NULL THEN
                       (SELECT created_at FROM events
                        WHERE position > b.position ORDER BY position LIMIT 1)
                   WHEN has_many THEN coalesce(
                       (SELECT n.created_at
                        FROM (SELECT * FROM events
                              WHERE position > b.position AND position <= b.announced
                              ORDER BY position LIMIT 1000) AS n
                            JOIN accounts AS a USING (account_id)
                        WHERE a.owner_id = b.owner_id ORDER BY n.position LIMIT 1),
                       (SELECT created_at FROM events WHERE position = b.announced))
                   ELSE
                       (SELECT first.created_at
                        FROM accounts AS a CROSS JOIN LATERAL (
                            SELECT position, created_at FROM events
                            WHERE (account_id, position) > (a.account_id, b.position)
                                AND (account_id, position) <= (a.account_id, b.announced)
                            ORDER BY account_id, position LIMIT 1) AS first
                        WHERE a.owner_id = b.owner_id ORDER BY first.position LIMIT 1)
                   END AS created_at
               FROM (SELECT *, EXISTS (
                         SELECT FROM accounts AS a WHERE a.owner_id = behind.owner_id
                         ORDER BY account_id DESC OFFSET 1000) AS has_many
                     FROM behind) AS b
               UNION ALL
               SELECT true, created_at FROM events WHERE position = (
                   SELECT min(d.position)
                   FROM webhook_deliveries AS d JOIN webhook_endpoints AS e ON id = endpoint_id
                   WHERE enabled AND next_attempt_at IS NOT NULL)
               UNION ALL
               (SELECT false, created_at FROM events
                WHERE position > (SELECT position FROM webhook_fanout WHERE only_row)
                    AND EXISTS (SELECT FROM webhook_endpoints WHERE enabled)
                ORDER BY position LIMIT 1)
           ), ages AS (
               SELECT is_failing, extract(epoch FROM clock_timestamp() - created_at)::float8 AS age
               FROM next
           )
           SELECT coalesce(max(age) FILTER (WHERE is_failing), 0) AS "failing_age!",
                  coalesce(max(age) FILTER (WHERE NOT is_failing), 0) AS "untried_age!",
                  (SELECT count(*) FROM (SELECT FROM webhook_deliveries
                       WHERE next_attempt_at IS NOT NULL LIMIT 100000) AS w) AS "retries!",
                  (SELECT count(*) FROM webhook_secrets
                   WHERE substring(sealed FROM 1 FOR octet_length($1::bytea)) <> $1
                       AND (expires_at IS NULL OR expires_at > clock_timestamp())) AS "old_seals!"
           FROM ages"#,
        present,
    );
    Ok(backlog.fetch_one(database).await?)
}
