//! The databases: version, migrations, connections, long transactions and locks, and records that
//! stay PENDING.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{Connection, Executor, PgConnection, migrate::Migrator};
use uuid::Uuid;

use super::check::{Area, Check, STUCK};
use crate::{age, database, migrations};

/// The oldest supported version of PostgreSQL, as `server_version_num`.
const MIN_VERSION: i32 = 150_000;
/// The share of used connections for a finding, in percent.
const MAX_USED_PERCENT: i64 = 80;
/// The number of newest records to check: a quick check can't read a table that only grows.
/// `passbook verify` checks all records.
const NEWEST: i64 = 200_000;
/// The shortest wait for a lock to report. Passbook's own statements time out earlier, so another
/// client holds such a lock.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Checks the account-service's database.
pub(super) async fn check_account(url: Option<&str>) -> Vec<Check> {
    let mut area = Area::new("account database");
    if let Some(mut connection) = check_common(&mut area, url, &migrations::ACCOUNT).await {
        check_pending(&mut area, &mut connection).await;
        close(connection).await;
    }
    area.into_checks()
}

/// Checks the transaction-service's database.
pub(super) async fn check_transaction(url: Option<&str>) -> Vec<Check> {
    let mut area = Area::new("transaction database");
    if let Some(connection) = check_common(&mut area, url, &migrations::TRANSACTION).await {
        close(connection).await;
    }
    area.into_checks()
}

pub(super) async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "closing a database connection failed");
    }
}

/// Connects to a database, and checks what is the same for every one.
pub(super) async fn check_common(
    area: &mut Area,
    url: Option<&str>,
    migrations: &Migrator,
) -> Option<PgConnection> {
    let Some(url) = url else {
        area.not_checked("reachable", "no URL is given");
        return None;
    };
    let connect = async {
        let mut connection = database::connect_limited(url).await?;
        connection.execute("SET statement_timeout = '8s'; SET lock_timeout = '2s'").await?;
        Ok(connection)
    };
    let advice = "start PostgreSQL, or correct the URL, its user or password; until then, requests \
                  are answered with 503 and no money moves";
    let mut connection = area.attempt("reachable", advice, connect).await?;
    check_version(area, &mut connection).await;
    check_writable(area, &mut connection).await;
    check_durability(area, &mut connection).await;
    check_migrations(area, &mut connection, migrations).await;
    check_connections(area, &mut connection).await;
    check_hold_ups(area, &mut connection).await;
    Some(connection)
}

/// The advice for a failed query.
pub(super) const QUERY_FAILED: &str = "see the server's log; the user of the URL needs read access to \
                            everything, as the role auditor has";

async fn check_version(area: &mut Area, connection: &mut PgConnection) {
    let lookup = async {
        let query = "SELECT current_setting('server_version'),
                            current_setting('server_version_num')::int";
        Ok(sqlx::query_as::<_, (String, i32)>(query).fetch_one(connection).await?)
    };
    let Some((version, number)) = area.attempt("reachable", QUERY_FAILED, lookup).await else {
        return;
    };
    if number < MIN_VERSION {
        let detail = format!("PostgreSQL {version} is too old");
        area.finding("version", detail, "upgrade to PostgreSQL 15 or newer");
    } else {
        area.fine("reachable", format!("PostgreSQL {version}"));
    }
}

/// Whether the server takes writes. A read-only default of a role or database shows in the
/// readiness of its service.
async fn check_writable(area: &mut Area, connection: &mut PgConnection) {
    let lookup = async {
        let query = sqlx::query_scalar::<_, bool>("SELECT pg_is_in_recovery()");
        Ok(query.fetch_one(connection).await?)
    };
    let Some(is_standby) = area.attempt("writable", QUERY_FAILED, lookup).await else { return };
    if is_standby {
        let advice = "point the URL at the primary, or promote this server; a service that uses it \
                      is not ready";
        area.finding("writable", "the server is a standby", advice);
    } else {
        area.fine("writable", "");
    }
}

/// Whether a commit survives a crash: the server's settings, and those that a role or database
/// has of its own. A service sends its own `synchronous_commit`.
async fn check_durability(area: &mut Area, connection: &mut PgConnection) {
    const NAME: &str = "durability";
    let lookup = async {
        let query = "SELECT format('%s is off', name)
                     FROM unnest(ARRAY['fsync', 'full_page_writes', 'synchronous_commit']) AS name
                     WHERE current_setting(name) = 'off'
                     UNION ALL
                     SELECT format('%s is set for %s', setting,
                                   concat_ws(' in ', 'role ' || quote_ident(rolname),
                                             'database ' || quote_ident(datname)))
                     FROM pg_db_role_setting
                         LEFT JOIN pg_roles ON pg_roles.oid = setrole
                         LEFT JOIN pg_database ON pg_database.oid = setdatabase,
                         unnest(setconfig) AS setting
                     WHERE setting = 'synchronous_commit=off'
                         AND (setdatabase = 0 OR datname = current_database())";
        Ok(sqlx::query_scalar::<_, String>(query).fetch_all(connection).await?)
    };
    let Some(found) = area.attempt(NAME, QUERY_FAILED, lookup).await else { return };
    for detail in &found {
        let advice = "turn it on, or reset it: a crash of the server could lose commits that were \
                      acknowledged. Find out who changed it";
        area.finding(NAME, detail.as_str(), advice);
    }
    if found.is_empty() {
        area.fine(NAME, "");
    }
}

async fn check_migrations(area: &mut Area, connection: &mut PgConnection, migrations: &Migrator) {
    type Row = (i64, bool, Vec<u8>);
    let lookup = async {
        let has_table = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
        if !sqlx::query_scalar::<_, bool>(has_table).fetch_one(&mut *connection).await? {
            return Ok(Vec::new());
        }
        let query = "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version";
        Ok(sqlx::query_as::<_, Row>(query).fetch_all(connection).await?)
    };
    let Some(rows) = area.attempt("migrations", QUERY_FAILED, lookup).await else { return };
    let count = rows.len();
    let mut rows: BTreeMap<_, _> =
        rows.into_iter().map(|(version, success, sum)| (version, (success, sum))).collect();
    let mut fine = true;
    for migration in migrations.iter() {
        let version = migration.version;
        let (detail, advice) = match rows.remove(&version) {
            None => ("is not applied", "run `passbook migrate` with the owner's URL"),
            Some((false, _)) => {
                ("was started and did not finish", "undo its changes by hand, and migrate again")
            }
            Some((true, sum)) if sum != *migration.checksum => (
                "was applied with other content",
                "use the release this database was migrated with: an applied migration never \
                 changes",
            ),
            Some(_) => continue,
        };
        fine = false;
        area.finding("migrations", format!("{version} {} {detail}", migration.description), advice);
    }
    for version in rows.keys() {
        fine = false;
        let detail = format!("{version} is applied and unknown to this release");
        area.finding("migrations", detail, "use the newer release that migrated this database");
    }
    if fine {
        area.fine("migrations", format!("{count} applied"));
    }
}

async fn check_connections(area: &mut Area, connection: &mut PgConnection) {
    let lookup = async {
        let query = "SELECT count(*), current_setting('max_connections')::bigint
                            - current_setting('superuser_reserved_connections')::bigint
                     FROM pg_stat_activity WHERE backend_type = 'client backend'";
        Ok(sqlx::query_as::<_, (i64, i64)>(query).fetch_one(connection).await?)
    };
    let Some((used, limit)) = area.attempt("connections", QUERY_FAILED, lookup).await else {
        return;
    };
    let detail = format!("{used} of {limit} in use");
    if used * 100 >= limit * MAX_USED_PERCENT {
        let advice = "lower PASSBOOK_DATABASE_CONNECTIONS, run fewer replicas, or raise \
                      max_connections: a replica without a connection answers with 503";
        area.finding("connections", detail, advice);
    } else {
        area.fine("connections", detail);
    }
}

/// A query for clients that hold others up.
struct HoldUp {
    check: &'static str,
    /// Gives a description and an age in seconds per row, the oldest first.
    query: &'static str,
    /// The age for a finding.
    limit: Duration,
    advice: &'static str,
}

const HOLD_UPS: [HoldUp; 4] = [
    HoldUp {
        check: "transactions",
        query: "SELECT format('process %s of %s, %s, is in one transaction', pid,
                              coalesce(nullif(application_name, ''), usename), state),
                       extract(epoch FROM clock_timestamp() - xact_start)::bigint
                FROM pg_stat_activity
                WHERE backend_type = 'client backend' AND datname = current_database()
                  AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
                ORDER BY 2 DESC LIMIT 5",
        limit: STUCK,
        advice: "find out what that client does; pg_terminate_backend(pid) ends its connection, and \
                 is safe for Passbook's own clients",
    },
    HoldUp {
        check: "locks",
        query: "SELECT format('process %s waits for a lock that %s holds', pid,
                              coalesce(nullif(array_to_string(pg_blocking_pids(pid), ', '), ''), 'nobody')),
                       extract(epoch FROM clock_timestamp() - waitstart)::bigint
                FROM pg_locks
                WHERE NOT granted AND waitstart IS NOT NULL
                  AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())
                ORDER BY 2 DESC LIMIT 5",
        limit: LOCK_WAIT,
        advice: "look up the process with the lock in pg_stat_activity; pg_terminate_backend(pid) \
                 ends it",
    },
    HoldUp {
        check: "commits",
        query: "SELECT format('process %s of %s waits for a synchronous standby to confirm its commit', pid,
                              coalesce(nullif(application_name, ''), usename)),
                       extract(epoch FROM clock_timestamp() - state_change)::bigint
                FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event = 'SyncRep'
                ORDER BY 2 DESC LIMIT 5",
        limit: LOCK_WAIT,
        advice: "start the standby, or take it out of synchronous_standby_names and reload; until \
                 then, requests get the problem outcome-unknown. Do not cancel the process: its \
                 commit would count without the standby",
    },
    HoldUp {
        check: "prepared transactions",
        query: "SELECT format('%s is prepared, holds its locks and has not ended', gid),
                       extract(epoch FROM clock_timestamp() - prepared)::bigint
                FROM pg_prepared_xacts WHERE database = current_database()
                ORDER BY 2 DESC LIMIT 5",
        limit: STUCK,
        advice: "another client prepared it, since Passbook prepares none: end it with COMMIT PREPARED \
                 or ROLLBACK PREPARED",
    },
];

async fn check_hold_ups(area: &mut Area, connection: &mut PgConnection) {
    for HoldUp { check, query, limit, advice } in HOLD_UPS {
        let lookup = async {
            Ok(sqlx::query_as::<_, (String, i64)>(query).fetch_all(&mut *connection).await?)
        };
        let Some(rows) = area.attempt(check, QUERY_FAILED, lookup).await else { continue };
        let mut fine = true;
        for (client, seconds) in rows {
            let age = age::from_seconds(seconds);
            if age > limit {
                fine = false;
                area.lasting(check, client, age, advice);
            }
        }
        if fine {
            area.fine(check, "");
        }
    }
}

async fn check_pending(area: &mut Area, connection: &mut PgConnection) {
    type Row = (Uuid, i64, i32, i64);
    let lookup = async {
        // No index covers the status. Older records are in the redrive's list.
        let query = "SELECT id, extract(epoch FROM now() - created_at)::bigint, redrives,
                            count(*) OVER ()
                     FROM (SELECT id, created_at, redrives
                           FROM (SELECT * FROM transaction_records ORDER BY id DESC LIMIT $1) AS newest
                           WHERE status = 'PENDING'
                           UNION
                           SELECT id, created_at, redrives
                           FROM pending_records JOIN transaction_records ON id = record_id
                           WHERE status = 'PENDING') AS pending
                     ORDER BY created_at LIMIT 1";
        Ok(sqlx::query_as::<_, Row>(query).bind(NEWEST).fetch_optional(connection).await?)
    };
    let Some(row) = area.attempt("PENDING records", QUERY_FAILED, lookup).await else { return };
    let Some((id, seconds, redrives, count)) = row else {
        return area.fine("PENDING records", "none");
    };
    let age = age::from_seconds(seconds);
    let detail = format!("{count}; the oldest, {id}, was redriven {redrives} times and waits");
    if age > STUCK {
        let advice = "see the findings about NATS and the transaction-service; `passbook dlq ls \
                      --record ID` shows whether its message is a dead letter";
        area.lasting("PENDING records", detail, age, advice);
    } else {
        area.fine("PENDING records", format!("{count} in flight"));
    }
}
