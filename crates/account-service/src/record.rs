//! The record: one request to move money, from PENDING to SUCCESS or FAILED.

use contract::{AccountId, Amount, ApiKeyId, Command, Currency, Kind, Movement, RecordId, UserId};
use ledger::{SettledAs, Settlement};
use runtime::http::idempotency_key::IdempotencyKey;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::labels::Labels;

/// A valid request to move money, not stored yet.
#[derive(Debug, Clone)]
pub struct NewRecord {
    pub id: RecordId,
    pub account_id: AccountId,
    pub key: IdempotencyKey,
    /// The user behind the request.
    pub user_id: UserId,
    /// The API key that the user, or a machine in the user's name, sent. It is no part of the
    /// request: a retry may come with another one.
    pub api_key: Option<ApiKeyId>,
    pub kind: Kind,
    pub amount: Amount,
    pub currency: Currency,
    pub labels: Labels,
}

impl NewRecord {
    /// Two requests with one key are the same request if their hashes are equal. The
    /// hash is the SHA-256 of type, amount and currency as parsed, and of the labels: `10.5` and
    /// `10.50` are equal.
    #[must_use]
    pub fn request_hash(&self) -> [u8; 32] {
        let movement = format!("{} {} {}", self.kind, self.amount, self.currency);
        let mut hash = Sha256::new_with_prefix(movement);
        self.labels.add_to(&mut hash);
        hash.finalize().into()
    }

    /// The record as it is stored: PENDING, accepted at `now`.
    #[must_use]
    pub fn pending(&self, now: OffsetDateTime) -> Record {
        Record {
            id: self.id,
            account_id: self.account_id,
            user_id: self.user_id.clone(),
            api_key: self.api_key,
            kind: self.kind,
            amount: self.amount,
            currency: self.currency,
            labels: self.labels.clone(),
            settlement: None,
            account_seq: None,
            key: self.key.as_str().to_owned(),
            created_at: now,
            updated_at: now,
        }
    }
}

/// The status of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The ledger's decision is not known yet.
    Pending,
    /// The ledger applied the movement.
    Success,
    /// The ledger refused the movement.
    Failed,
}

impl Status {
    pub const ALL: [Self; 3] = [Self::Pending, Self::Success, Self::Failed];

    /// As in the API and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
        }
    }

    /// The status with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub id: RecordId,
    pub account_id: AccountId,
    /// The user behind the request.
    pub user_id: UserId,
    /// The API key of the request. `None`: a token, or accepted by an earlier release.
    pub api_key: Option<ApiKeyId>,
    pub kind: Kind,
    pub amount: Amount,
    pub currency: Currency,
    pub labels: Labels,
    /// `None` while the record is PENDING.
    pub settlement: Option<Settlement>,
    /// The number of an applied movement on its account. `None` while PENDING, if FAILED, and
    /// if an earlier release settled the record.
    pub account_seq: Option<i64>,
    /// The key of the request.
    pub key: String,
    /// When the record was accepted.
    pub created_at: OffsetDateTime,
    /// When the record was settled; before that, when it was accepted.
    pub updated_at: OffsetDateTime,
}

impl Record {
    /// PENDING, or the final state.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self.settlement {
            None => Status::Pending,
            Some(Settlement { settled_as: SettledAs::Success(_), .. }) => Status::Success,
            Some(Settlement { settled_as: SettledAs::Failed(_), .. }) => Status::Failed,
        }
    }

    /// The money to move.
    #[must_use]
    pub const fn movement(&self) -> Movement {
        let Self { account_id, kind, amount, currency, .. } = *self;
        Movement { account_id, kind, amount, currency }
    }

    /// The command that asks the ledger for the record's effect.
    #[must_use]
    pub fn command(&self) -> Command {
        Command {
            record_id: self.id,
            account_id: self.account_id,
            user_id: self.user_id.clone(),
            kind: self.kind,
            amount: self.amount,
            currency: self.currency,
            requested_at: self.created_at,
        }
    }
}
