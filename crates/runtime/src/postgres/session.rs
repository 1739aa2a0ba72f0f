//! The settings of a session: sent at connect, and compared before the first use.
//!
//! A proxy in front of the server can drop them, or give one session's statements to
//! several backends. Without the limits, a lost replica keeps its locks; with other
//! plans, batches take their locks in another order. So such a connection is refused,
//! and readiness reports why.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::PgConnection;

use super::renewal;

/// Settings with their values as `current_setting` shows them.
const COMPARED: [(&str, &str); 9] = [
    // An acceptance must be on disk, and on a synchronous standby. A role may change this setting
    // for its own sessions; what a session sends counts more.
    ("synchronous_commit", "on"),
    // Any statement that runs for longer is stuck.
    ("statement_timeout", "10s"),
    // A batch waits this long for a row that another transaction holds. Then it is taken apart.
    ("lock_timeout", "2s"),
    // A replica that vanishes must not keep its locks until the kernel's keepalive ends.
    ("idle_in_transaction_session_timeout", "10s"),
    // All statements look up rows by key. Planning takes longer than many lookups. No plan
    // beats an index scan in the given order of keys, which is also the order of the locks. A
    // generic plan is made once, perhaps while the table is empty, so plans that suit only
    // small tables are disabled.
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];

/// Not compared: a Unix socket has none, and behind a proxy they concern the proxy.
const KEEPALIVES: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25000"),
];

/// A setting that is not sent, because several values are fine.
struct Required {
    name: &'static str,
    is_fine: fn(&str) -> bool,
    wanted: &'static str,
}

const REQUIRED: [Required; 1] = [
    // Each statement must see all commits before it.
    Required {
        name: "transaction_isolation",
        is_fine: |value| value == "read committed",
        wanted: "read committed",
    },
];

/// Pause after a refusal: the pool connects again at once.
const PAUSE: Duration = Duration::from_secs(1);
/// How long all connections are refused after the statements of several clients were mixed up.
/// Single connections can pass the check meanwhile.
const MIXED_FOR: Duration = Duration::from_secs(60);

/// The state of the check. One for the process: a service has one database of its own.
static STATE: Mutex<State> = Mutex::new(State { refused: None, mixed_until: None });

struct State {
    /// Why the newest connection was refused, if it was.
    refused: Option<String>,
    /// Until then, all connections are refused.
    mixed_until: Option<Instant>,
}

fn state() -> MutexGuard<'static, State> {
    // Both fields are valid on their own.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The settings to send at connect.
pub(super) fn sent() -> impl Iterator<Item = (&'static str, &'static str)> {
    COMPARED.into_iter().chain(KEEPALIVES)
}

/// Why the newest connection was refused, if it was.
pub(super) fn refused() -> Option<String> {
    state().refused.clone()
}

/// Refuses a new connection without the settings.
///
/// # Errors
/// If a setting differs, or the database's error.
pub(super) async fn check(connection: &mut PgConnection) -> sqlx::Result<()> {
    let reason = match settings(connection).await {
        Ok(settings) => difference(&settings).or_else(mixed_before),
        Err(error) if note_mixed(&error) => {
            renewal::renew(&error);
            refused()
        }
        Err(error) => return Err(error),
    };
    state().refused.clone_from(&reason);
    let Some(reason) = reason else { return Ok(()) };
    tokio::time::sleep(PAUSE).await;
    Err(sqlx::Error::Configuration(reason.into()))
}

async fn settings(connection: &mut PgConnection) -> sqlx::Result<Vec<(String, String)>> {
    let names = COMPARED.map(|(name, _)| name).into_iter();
    let names: Vec<_> = names.chain(REQUIRED.map(|required| required.name)).collect();
    sqlx::query_as("SELECT name, current_setting(name) FROM unnest($1::text[]) AS name")
        .bind(names)
        .fetch_all(connection)
        .await
}

/// What to say about the first setting with another value.
fn difference(settings: &[(String, String)]) -> Option<String> {
    let wanted = |name: &str, value: &str| {
        let compared = COMPARED.iter().find(|(compared, _)| *compared == name);
        let required = REQUIRED.iter().find(|required| required.name == name);
        match (compared, required) {
            (Some((_, wanted)), _) if value != *wanted => Some(*wanted),
            (_, Some(required)) if !(required.is_fine)(value) => Some(required.wanted),
            _ => None,
        }
    };
    settings.iter().find_map(|(name, value)| {
        let wanted = wanted(name, value)?;
        Some(format!(
            "the session has {name} = {value}, but needs {wanted}: connect to PostgreSQL directly, \
             or set this at the service's role (see \"Connection poolers\" in docs/deploying.md)"
        ))
    })
}

/// Why a connection is refused although its own settings are fine.
fn mixed_before() -> Option<String> {
    let state = state();
    let is_mixed = state.mixed_until.is_some_and(|until| Instant::now() < until);
    if is_mixed { state.refused.clone() } else { None }
}

/// Notes an error that another client's prepared statements cause, and returns whether it
/// is one: a statement is missing, or exists already.
pub(super) fn note_mixed(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return false };
    if !database.code().is_some_and(|code| ["26000", "42P05"].contains(&&*code)) {
        return false;
    }
    let mut state = state();
    state.mixed_until = Some(Instant::now() + MIXED_FOR);
    state.refused = Some(format!(
        "{error}: the statements of several clients share a backend, as behind a pooler in \
         transaction mode, which is not supported (see \"Connection poolers\" in \
         docs/deploying.md)"
    ));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(changed: &str, value: &str) -> Vec<(String, String)> {
        let required = [("transaction_isolation", "read committed")];
        let all = COMPARED.into_iter().chain(required);
        all.map(|(name, is)| (name.to_owned(), if name == changed { value } else { is }.to_owned()))
            .collect()
    }

    #[test]
    fn each_setting_that_differs_is_named() {
        assert_eq!(difference(&settings("", "")), None);
        for (name, value) in [
            ("statement_timeout", "0"),
            ("plan_cache_mode", "auto"),
            ("enable_seqscan", "on"),
            ("synchronous_commit", "off"),
            ("transaction_isolation", "serializable"),
        ] {
            let difference = difference(&settings(name, value)).unwrap();
            assert!(difference.contains(&format!("{name} = {value}")), "{difference}");
        }
    }

    #[test]
    fn the_documented_settings_of_a_role_are_those_that_are_compared() {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/deploying.md");
        let document = std::fs::read_to_string(document).unwrap();
        for (name, value) in COMPARED {
            assert!(document.contains(&format!("('{name}', '{value}')")), "{name} = {value}");
        }
    }
}
