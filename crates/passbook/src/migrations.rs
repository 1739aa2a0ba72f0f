//! The migrations of every database, embedded in this program.

use std::sync::LazyLock;

use sqlx::migrate::Migrator;

/// Migrations of the account-service's database.
pub(crate) static ACCOUNT: LazyLock<Migrator> =
    LazyLock::new(|| tolerate_newer(sqlx::migrate!("../../migrations/account")));
/// Migrations of the transaction-service's database.
pub(crate) static TRANSACTION: LazyLock<Migrator> =
    LazyLock::new(|| tolerate_newer(sqlx::migrate!("../../migrations/transaction")));
/// Migrations of the report-service's database.
pub(crate) static REPORT: LazyLock<Migrator> =
    LazyLock::new(|| tolerate_newer(sqlx::migrate!("../../migrations/report")));

/// Accepts applied migrations of a newer release, as after a rollback. Migrations only expand the
/// schema, so this release works with the newer one.
fn tolerate_newer(mut migrations: Migrator) -> Migrator {
    migrations.set_ignore_missing(true);
    migrations
}
