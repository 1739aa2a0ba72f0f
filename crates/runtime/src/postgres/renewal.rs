//! Closes connections that lead to a server which no longer serves.
//!
//! A primary that becomes a standby can keep its connections, and a proxy can keep
//! those to the old primary. Reads succeed over them and writes fail, while a new
//! connection would reach the new primary. So one error of this kind closes all
//! connections opened before it, each before its next use.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::session::OWN;

/// Shortest time between two renewals: while no server takes writes, not every statement
/// opens a connection.
const EVERY: Duration = Duration::from_secs(1);
/// Renewals that follow each other in less than this are logged once.
const SAME: Duration = Duration::from_secs(60);

/// Connections opened until then are closed. One for the process: a service has one database
/// of its own.
static OPENED_UNTIL: Mutex<Option<Instant>> = Mutex::new(None);

/// When a connection was last found lost. One for all pools of the process.
static LOST: Mutex<Option<Instant>> = Mutex::new(None);

/// Closes the connections of the pool if the error concerns their server: it is read-only
/// or shuts down, or a pooler mixed up the sessions. After a lost connection, the pool pings the
/// others before their next use.
pub fn note(error: &sqlx::Error) {
    note_lost(error);
    let sqlx::Error::Database(database) = error else { return };
    // SQLSTATE read_only_sql_transaction, admin_shutdown, crash_shutdown.
    let gone = database.code().is_some_and(|code| ["25006", "57P01", "57P02"].contains(&&*code));
    if gone || OWN.note_mixed(error) {
        renew(error);
    }
}

/// Closes the connections opened until now.
pub(super) fn renew(reason: &dyn std::fmt::Display) {
    let now = Instant::now();
    let mut until = OPENED_UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
    let pause = until.map(|last| now.duration_since(last));
    if pause.is_some_and(|pause| pause < EVERY) {
        return;
    }
    *until = Some(now);
    drop(until);
    if pause.is_none_or(|pause| pause >= SAME) {
        tracing::warn!(%reason, "the connections to the database are closed and opened again");
    }
}

/// Notes the time if the error says that a connection is lost. What cuts one can have cut all, so
/// each of the others is pinged before its next use.
pub(super) fn note_lost(error: &sqlx::Error) {
    let is_lost = match error {
        sqlx::Error::Io(_) => true,
        // SQLSTATE admin_shutdown, crash_shutdown: the last words of a server.
        sqlx::Error::Database(database) => {
            database.code().is_some_and(|code| ["57P01", "57P02"].contains(&&*code))
        }
        _ => false,
    };
    if is_lost {
        *LOST.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// Whether another connection was found lost after this one was last used.
pub(super) fn may_be_lost(idle_for: Duration) -> bool {
    let lost = *LOST.lock().unwrap_or_else(PoisonError::into_inner);
    lost.is_some_and(|lost| lost.elapsed() <= idle_for)
}

/// Whether a connection of this age is closed instead of used.
pub(super) fn is_outdated(age: Duration) -> bool {
    let until = *OPENED_UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = Instant::now().checked_sub(age);
    until.is_some_and(|until| opened.is_none_or(|opened| opened <= until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_opened_before_a_renewal_are_outdated_and_later_ones_are_not() {
        renew(&"a test");
        assert!(is_outdated(Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(5));
        assert!(!is_outdated(Duration::ZERO));
    }
}
