//! The pairs of migrations that create an index without a lock: the first drops the index if it
//! exists, the second creates it with `CONCURRENTLY`.
//!
//! No transaction is possible around the second. If it is interrupted, it leaves an invalid index,
//! or a valid one that is not recorded as migrated; the index then exists when the second is
//! applied again. So the first is repeated before each attempt of the second.

use sqlx::migrate::{Migration, Migrator};

/// The migration that drops the index which this one creates.
pub(super) fn drop_before<'a>(
    migrations: &'a Migrator,
    migration: &Migration,
) -> Option<&'a Migration> {
    let before =
        migrations.iter().take_while(|before| before.version < migration.version).last()?;
    let created = created_index(migration)?;
    (dropped_index(before)? == created).then_some(before)
}

fn created_index(migration: &Migration) -> Option<&str> {
    match *words(migration) {
        ["CREATE", "INDEX", "CONCURRENTLY", name, ..]
        | ["CREATE", "UNIQUE", "INDEX", "CONCURRENTLY", name, ..] => Some(name),
        _ => None,
    }
}

fn dropped_index(migration: &Migration) -> Option<&str> {
    match *words(migration) {
        ["DROP", "INDEX", "CONCURRENTLY", "IF", "EXISTS", name] => name.strip_suffix(';'),
        _ => None,
    }
}

/// The words of its statements, without comments.
fn words(migration: &Migration) -> Box<[&str]> {
    let lines = migration.sql.as_str().lines();
    lines.flat_map(|line| line.split("--").next().unwrap_or(line).split_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use super::{drop_before, dropped_index};
    use crate::migrations;

    #[test]
    fn every_migration_without_a_transaction_can_be_repeated() {
        for migrations in [&*migrations::ACCOUNT, &*migrations::TRANSACTION, &*migrations::REPORT] {
            for migration in migrations.iter().filter(|migration| migration.no_tx) {
                let repeatable = dropped_index(migration).is_some()
                    || drop_before(migrations, migration).is_some();
                assert!(repeatable, "{} {}", migration.version, migration.description);
            }
        }
    }
}
