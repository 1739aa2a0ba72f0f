//! The databases: version, migrations, connections, what holds others up, and
//! the records that stay PENDING.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{Connection, Executor, PgConnection, migrate::Migrator};
use uuid::Uuid;

use super::{
    STUCK,
    check::{Area, Check},
};
use crate::{database, migrate};

/// The oldest version that the services are run against.
const OLDEST: i32 = 150_000;
/// Of the connections, in per cent.
const NEARLY_ALL: i64 = 80;
/// Records that are looked at, the newest: what a quick look can afford of a
/// table that only grows. `passbook verify` looks at all.
const NEWEST: i64 = 200_000;
/// A lock that is waited for this long is not held by us: our own statements
/// give up by then.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The account-service's database.
pub(super) async fn account(url: Option<&str>) -> Vec<Check> {
    let mut area = Area::new("account database");
    if let Some(mut connection) = common(&mut area, url, &migrate::ACCOUNT).await {
        pending(&mut area, &mut connection).await;
        close(connection).await;
    }
    area.done()
}

/// The transaction-service's database.
pub(super) async fn transaction(url: Option<&str>) -> Vec<Check> {
    let mut area = Area::new("transaction database");
    if let Some(connection) = common(&mut area, url, &migrate::TRANSACTION).await {
        close(connection).await;
    }
    area.done()
}

async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "closing a connection");
    }
}

async fn common(area: &mut Area, url: Option<&str>, migrations: &Migrator) -> Option<PgConnection> {
    let Some(url) = url else {
        area.not_checked("reachable", "no URL is given");
        return None;
    };
    let connect = async {
        let mut connection = database::connect(url).await?;
        connection.execute("SET statement_timeout = '8s'; SET lock_timeout = '2s'").await?;
        Ok(connection)
    };
    let advice = "start PostgreSQL, or correct the URL, its user or password; until then requests \
                  are answered with 503 and no money moves";
    let mut connection = area.attempt("reachable", advice, connect).await?;
    version(area, &mut connection).await;
    applied(area, &mut connection, migrations).await;
    connections(area, &mut connection).await;
    held_up(area, &mut connection).await;
    Some(connection)
}

/// What is to be done where a question itself fails.
const ASK_AGAIN: &str = "see the server's log: it does not answer a plain question; a user who may \
                         read everything is needed";

async fn version(area: &mut Area, connection: &mut PgConnection) {
    let ask = async {
        let query = "SELECT current_setting('server_version'),
                            current_setting('server_version_num')::int";
        Ok(sqlx::query_as::<_, (String, i32)>(query).fetch_one(connection).await?)
    };
    let Some((version, number)) = area.attempt("reachable", ASK_AGAIN, ask).await else { return };
    if number < OLDEST {
        let detail = format!("PostgreSQL {version} is too old");
        area.finding("version", detail, "upgrade to PostgreSQL 15 or newer");
    } else {
        area.fine("reachable", format!("PostgreSQL {version}"));
    }
}

async fn applied(area: &mut Area, connection: &mut PgConnection, migrations: &Migrator) {
    type Row = (i64, bool, Vec<u8>);
    let ask = async {
        let there = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
        if !sqlx::query_scalar::<_, bool>(there).fetch_one(&mut *connection).await? {
            return Ok(Vec::new());
        }
        let query = "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version";
        Ok(sqlx::query_as::<_, Row>(query).fetch_all(connection).await?)
    };
    let Some(rows) = area.attempt("migrations", ASK_AGAIN, ask).await else { return };
    let count = rows.len();
    let mut rows: BTreeMap<_, _> =
        rows.into_iter().map(|(version, success, sum)| (version, (success, sum))).collect();
    let mut fine = true;
    for migration in migrations.iter() {
        let version = migration.version;
        let (detail, advice) = match rows.remove(&version) {
            None => ("is not applied", "run `passbook migrate` with the owner's URL"),
            Some((false, _)) => {
                ("was begun and not finished", "undo by hand what it did, and migrate again")
            }
            Some((true, sum)) if sum != *migration.checksum => (
                "was applied in another form",
                "use the release that this database was migrated with: an applied migration never \
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

async fn connections(area: &mut Area, connection: &mut PgConnection) {
    let ask = async {
        let query = "SELECT count(*), current_setting('max_connections')::bigint
                            - current_setting('superuser_reserved_connections')::bigint
                     FROM pg_stat_activity WHERE backend_type = 'client backend'";
        Ok(sqlx::query_as::<_, (i64, i64)>(query).fetch_one(connection).await?)
    };
    let Some((used, most)) = area.attempt("connections", ASK_AGAIN, ask).await else { return };
    let detail = format!("{used} of {most} in use");
    if used * 100 >= most * NEARLY_ALL {
        let advice = "lower PASSBOOK_DATABASE_CONNECTIONS, run fewer replicas, or raise \
                      max_connections: a replica that gets none answers with 503";
        area.finding("connections", detail, advice);
    } else {
        area.fine("connections", detail);
    }
}

/// A question, what its rows are, since when they count, and what to do.
struct HoldUp {
    check: &'static str,
    query: &'static str,
    limit: Duration,
    advice: &'static str,
}

/// Each query gives who, and for how many seconds, the longest first.
const HOLD_UPS: [HoldUp; 3] = [
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
        advice: "find out what that client is doing; pg_terminate_backend(pid) ends it, and is safe \
                 for Passbook's own",
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
        advice: "look at the process that holds it in pg_stat_activity; pg_terminate_backend(pid) \
                 ends it",
    },
    HoldUp {
        check: "prepared transactions",
        query: "SELECT format('%s is prepared, holds its locks and has not ended', gid),
                       extract(epoch FROM clock_timestamp() - prepared)::bigint
                FROM pg_prepared_xacts WHERE database = current_database()
                ORDER BY 2 DESC LIMIT 5",
        limit: STUCK,
        advice: "Passbook prepares none: whoever did has to COMMIT PREPARED or ROLLBACK PREPARED",
    },
];

async fn held_up(area: &mut Area, connection: &mut PgConnection) {
    for HoldUp { check, query, limit, advice } in HOLD_UPS {
        let ask = async {
            Ok(sqlx::query_as::<_, (String, i64)>(query).fetch_all(&mut *connection).await?)
        };
        let Some(rows) = area.attempt(check, ASK_AGAIN, ask).await else { continue };
        let mut fine = true;
        for (who, seconds) in rows {
            let age = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            if age > limit {
                fine = false;
                area.lasting(check, who, age, advice);
            }
        }
        if fine {
            area.fine(check, "");
        }
    }
}

async fn pending(area: &mut Area, connection: &mut PgConnection) {
    type Row = (Uuid, i64, i32, i64);
    let ask = async {
        // No index looks at the status.
        let query = "SELECT id, extract(epoch FROM now() - created_at)::bigint, redrives,
                            count(*) OVER ()
                     FROM (SELECT * FROM transaction_records ORDER BY id DESC LIMIT $1) AS newest
                     WHERE status = 'PENDING' ORDER BY created_at LIMIT 1";
        Ok(sqlx::query_as::<_, Row>(query).bind(NEWEST).fetch_optional(connection).await?)
    };
    let Some(row) = area.attempt("PENDING records", ASK_AGAIN, ask).await else { return };
    let Some((id, seconds, redrives, count)) = row else {
        return area.fine("PENDING records", format!("none among the newest {NEWEST}"));
    };
    let age = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let detail = format!("{count}; the oldest, {id}, was sent again {redrives} times and waits");
    if age > STUCK {
        let advice = "see the findings of NATS and the transaction-service; `passbook dlq ls \
                      --record ID` tells whether its message is a dead letter";
        area.lasting("PENDING records", detail, age, advice);
    } else {
        area.fine("PENDING records", format!("{count} in flight"));
    }
}
