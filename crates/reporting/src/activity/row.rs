//! A decided movement, as the report reads it.

use contract::{Kind, RecordId};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::units::Units;

/// A row of the ledger's transactions.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) record_id: Uuid,
    pub(super) account_id: Uuid,
    pub(super) kind: Kind,
    pub(super) amount: Units,
    pub(super) currency: String,
    /// `None` if the movement was applied.
    pub(super) refusal: Option<String>,
    pub(super) created_at: OffsetDateTime,
}

/// A row with an amount above the usual ones.
#[derive(Debug, Clone)]
pub(super) struct LargeRow {
    pub(super) id: i64,
    pub(super) record_id: Uuid,
    pub(super) account_id: Uuid,
    pub(super) kind: Kind,
    pub(super) amount: Units,
    pub(super) currency: String,
    pub(super) created_at: OffsetDateTime,
}

/// An applied movement of an account.
#[derive(Debug, Clone)]
pub(super) struct AccountRow {
    pub(super) account_id: Uuid,
    pub(super) kind: Kind,
    pub(super) amount: Units,
    pub(super) currency: String,
}

impl Row {
    /// The time from the request to the decision, in milliseconds. Not below zero,
    /// although the clocks of two machines can differ.
    ///
    /// The time of the request is the time in the record's id. This is the column
    /// `requested_at` of the view, and the same rule for plausible times; here it costs a
    /// fraction of what it costs in SQL. `None` if the id has no such time.
    pub(super) fn settlement_ms(&self) -> Option<u64> {
        const EARLIEST: i64 = 1_577_836_800_000; // 2020
        let made_at = RecordId::from_uuid(self.record_id).made_at();
        let since = made_at.duration_since(std::time::UNIX_EPOCH).ok()?;
        let requested = i64::try_from(since.as_millis()).ok()?;
        let created = i64::try_from(self.created_at.unix_timestamp_nanos() / 1_000_000).ok()?;
        let latest = created + i64::try_from(Duration::HOUR.whole_milliseconds()).ok()?;
        let plausible =
            self.record_id.get_version_num() == 7 && (EARLIEST..=latest).contains(&requested);
        plausible.then(|| u64::try_from(created - requested).unwrap_or(0))
    }
}
