//! The settings of a session: sent at connect, and compared before the first use.
//!
//! A proxy in front of the server can drop them, or give one session's statements to
//! several backends. Without the limits, a lost replica keeps its locks; with other
//! plans, batches take their locks in another order. So such a connection is refused,
//! and readiness reports why. A pool of readers has no part in readiness: its own error says why.

use std::{
    borrow::Cow,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::PgConnection;

/// A setting's name, and its value as `current_setting` shows it.
pub type Setting = (&'static str, &'static str);

/// The settings of a service's own sessions.
const OWN_SETTINGS: [Setting; 9] = [
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

/// The server ends a session, and its locks, about 25 s after its client has vanished. The probes
/// also keep NAT entries alive during a long statement.
///
/// Not compared: a Unix socket has none, and behind a proxy they concern the proxy.
pub(super) const KEEPALIVES: [Setting; 4] = [
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
    // Each statement must see all commits before it. A standby has no serializable transactions.
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

/// The sessions of the service's own database. A service has one.
pub(super) static OWN: Sessions = Sessions::of(Cow::Borrowed(&OWN_SETTINGS));

/// The sessions of a pool: their settings, and the state of their check.
#[derive(Debug)]
pub struct Sessions {
    settings: Cow<'static, [Setting]>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Why the newest connection was refused, if it was.
    refused: Option<String>,
    /// When the statements of several clients were last found mixed up.
    mixed_at: Option<Instant>,
}

impl Sessions {
    /// Sessions with these settings.
    #[must_use]
    pub const fn new(settings: Vec<Setting>) -> Self {
        Self::of(Cow::Owned(settings))
    }

    const fn of(settings: Cow<'static, [Setting]>) -> Self {
        Self { settings, state: Mutex::new(State { refused: None, mixed_at: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Both fields are valid on their own.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings to send at connect.
    pub(super) fn sent(&self) -> impl Iterator<Item = Setting> + '_ {
        self.settings.iter().copied().chain(KEEPALIVES)
    }

    /// Why the newest connection was refused, if it was.
    pub(super) fn refused(&self) -> Option<String> {
        self.state().refused.clone()
    }

    /// Refuses a new connection without the settings.
    ///
    /// # Errors
    /// If a setting differs, or the database's error.
    pub(super) async fn check(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let reason = match self.read(connection).await {
            Ok(settings) => self.difference(&settings).or_else(|| self.mixed_before()),
            Err(error) if self.note_mixed(&error) => self.refused(),
            Err(error) => return Err(error),
        };
        self.state().refused.clone_from(&reason);
        let Some(reason) = reason else { return Ok(()) };
        tokio::time::sleep(PAUSE).await;
        Err(sqlx::Error::Configuration(reason.into()))
    }

    async fn read(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<(String, String)>> {
        let names = self.settings.iter().map(|(name, _)| *name);
        let names: Vec<_> = names.chain(REQUIRED.map(|required| required.name)).collect();
        sqlx::query_as("SELECT name, current_setting(name) FROM unnest($1::text[]) AS name")
            .bind(names)
            .fetch_all(connection)
            .await
    }

    /// What to say about the first setting with another value.
    fn difference(&self, settings: &[(String, String)]) -> Option<String> {
        let wanted = |name: &str, value: &str| {
            let compared = self.settings.iter().find(|(compared, _)| *compared == name);
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
                "the session has {name} = {value}, but needs {wanted}: connect to PostgreSQL \
                 directly, or set this at the session's role (see \"Connection poolers\" in \
                 docs/deploying.md)"
            ))
        })
    }

    /// Why a connection is refused although its own settings are fine.
    fn mixed_before(&self) -> Option<String> {
        let state = self.state();
        let is_mixed = state.mixed_at.is_some_and(|mixed_at| mixed_at.elapsed() < MIXED_FOR);
        if is_mixed { state.refused.clone() } else { None }
    }

    /// Whether a connection of this age is from before the statements were last found mixed up.
    pub(super) fn is_mixed(&self, age: Duration) -> bool {
        self.state().mixed_at.is_some_and(|mixed_at| mixed_at.elapsed() <= age)
    }

    /// Notes an error that another client's prepared statements cause, and returns whether it
    /// is one: a statement is missing, or exists already.
    pub(super) fn note_mixed(&self, error: &sqlx::Error) -> bool {
        let sqlx::Error::Database(database) = error else { return false };
        if !database.code().is_some_and(|code| ["26000", "42P05"].contains(&&*code)) {
            return false;
        }
        let mut state = self.state();
        state.mixed_at = Some(Instant::now());
        state.refused = Some(format!(
            "{error}: the statements of several clients share a backend, as behind a pooler in \
             transaction mode, which is not supported (see \"Connection poolers\" in \
             docs/deploying.md)"
        ));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(changed: &str, value: &str) -> Vec<(String, String)> {
        let required = [("transaction_isolation", "read committed")];
        let all = OWN_SETTINGS.into_iter().chain(required);
        all.map(|(name, is)| (name.to_owned(), if name == changed { value } else { is }.to_owned()))
            .collect()
    }

    #[test]
    fn each_setting_that_differs_is_named() {
        assert_eq!(OWN.difference(&settings("", "")), None);
        for (name, value) in [
            ("statement_timeout", "0"),
            ("plan_cache_mode", "auto"),
            ("enable_seqscan", "on"),
            ("synchronous_commit", "off"),
            ("transaction_isolation", "serializable"),
        ] {
            let difference = OWN.difference(&settings(name, value)).unwrap();
            assert!(difference.contains(&format!("{name} = {value}")), "{difference}");
        }
    }

    #[test]
    fn the_documented_settings_of_a_role_are_those_that_are_compared() {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/deploying.md");
        let document = std::fs::read_to_string(document).unwrap();
        for (name, value) in OWN_SETTINGS {
            assert!(document.contains(&format!("('{name}', '{value}')")), "{name} = {value}");
        }
    }
}
