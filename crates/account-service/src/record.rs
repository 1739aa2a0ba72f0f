//! The record: one request to move money, from PENDING to SUCCESS or FAILED.
//! Pure: what a result may do to a record is decided here.

use std::fmt;

use contract::{
    AccountId, Amount, Balance, Command, Currency, Kind, MovementResult, Outcome, Reason, RecordId,
    UserId,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// A client's name for one request, unique within its account. 1 to 255
/// visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The key that a client wrote, bare or as a quoted string (RFC 8941
    /// section 3.3.3): `abc` and `"abc"` are the same key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let key = match text.strip_prefix('"') {
            None => text.to_owned(),
            Some(quoted) => unescape(quoted.strip_suffix('"')?)?,
        };
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        ((1..=255).contains(&key.len()) && visible).then_some(Self(key))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn unescape(quoted: &str) -> Option<String> {
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted.chars();
    while let Some(character) = rest.next() {
        text.push(match character {
            '\\' => rest.next().filter(|escaped| matches!(escaped, '"' | '\\'))?,
            '"' => return None,
            plain => plain,
        });
    }
    Some(text)
}

/// A request to move money, understood and allowed, not yet stored.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// The id it will have.
    pub id: RecordId,
    /// Whose balance moves.
    pub account_id: AccountId,
    /// The client's name for it.
    pub key: IdempotencyKey,
    /// Who asks.
    pub user_id: UserId,
    /// Which way.
    pub kind: Kind,
    /// How much.
    pub amount: Amount,
    /// Of what.
    pub currency: Currency,
}

impl NewRecord {
    /// What makes two requests with one key the same request: SHA-256 of what
    /// they ask for, as it was understood (`10.5` and `10.50` are the same).
    #[must_use]
    pub fn request_hash(&self) -> [u8; 32] {
        Sha256::digest(format!("{} {} {}", self.kind, self.amount, self.currency)).into()
    }

    /// The record that it becomes by being stored.
    #[must_use]
    pub fn pending(&self, now: OffsetDateTime) -> Record {
        Record {
            id: self.id,
            account_id: self.account_id,
            user_id: self.user_id.clone(),
            kind: self.kind,
            amount: self.amount,
            currency: self.currency,
            settlement: None,
            created_at: now,
            updated_at: now,
        }
    }
}

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: RecordId,
    /// Whose balance moves.
    pub account_id: AccountId,
    /// Who asked.
    pub user_id: UserId,
    /// Which way.
    pub kind: Kind,
    /// How much.
    pub amount: Amount,
    /// Of what.
    pub currency: Currency,
    /// `None` while it is PENDING.
    pub settlement: Option<Settlement>,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When it was accepted or settled.
    pub updated_at: OffsetDateTime,
}

/// How a record ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// The ledger's number for the transaction.
    pub transaction_id: i64,
    /// The balance after it, or why it was refused.
    pub end: Result<Balance, Reason>,
}

impl From<&MovementResult> for Settlement {
    fn from(result: &MovementResult) -> Self {
        let end = match result.outcome {
            Outcome::Applied { balance_after, .. } => Ok(balance_after),
            Outcome::Refused(reason) => Err(reason),
        };
        Self { transaction_id: result.transaction_id, end }
    }
}

/// What a result does to its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It was PENDING and takes this.
    Settles(Settlement),
    /// It says so already.
    None,
    /// The result is about something else than the record: nothing changes.
    Contradicts(Contradiction),
}

/// How a result and a record disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contradiction {
    /// In account, kind, amount or currency.
    Movement,
    /// The record was settled otherwise.
    Outcome,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Movement => "the result is of another account, type, amount or currency",
            Self::Outcome => "the record was settled otherwise",
        })
    }
}

impl Record {
    /// Decides what a result does to this record. Only a PENDING record takes
    /// an outcome.
    #[must_use]
    pub fn effect_of(&self, result: &MovementResult) -> Effect {
        let same = self.account_id == result.account_id
            && self.kind == result.kind
            && self.amount == result.amount
            && self.currency == result.currency;
        let told = Settlement::from(result);
        match self.settlement {
            _ if !same => Effect::Contradicts(Contradiction::Movement),
            None => Effect::Settles(told),
            Some(settlement) if settlement == told => Effect::None,
            Some(_) => Effect::Contradicts(Contradiction::Outcome),
        }
    }

    /// The command that asks for its effect.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(settlement: Option<Settlement>) -> Record {
        let currency = Currency::parse("KRW").unwrap();
        Record {
            id: RecordId::new(),
            account_id: AccountId::new(),
            user_id: "teller".to_owned().try_into().unwrap(),
            kind: Kind::Deposit,
            amount: Amount::parse("100", currency).unwrap(),
            currency,
            settlement,
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn result(record: &Record, outcome: Outcome) -> MovementResult {
        MovementResult {
            record_id: record.id,
            transaction_id: 7,
            account_id: record.account_id,
            kind: record.kind,
            amount: record.amount,
            currency: record.currency,
            outcome,
            processed_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn only_a_pending_record_takes_an_outcome() {
        let refused = Outcome::Refused(Reason::InsufficientFunds);
        let settlement = Settlement { transaction_id: 7, end: Err(Reason::InsufficientFunds) };
        let pending = record(None);
        assert_eq!(pending.effect_of(&result(&pending, refused)), Effect::Settles(settlement));
        let settled = record(Some(settlement));
        assert_eq!(settled.effect_of(&result(&settled, refused)), Effect::None);
        let balance_after = Balance::zero(settled.currency);
        let applied = Outcome::Applied { balance_after, account_seq: 1 };
        let contradiction = Effect::Contradicts(Contradiction::Outcome);
        assert_eq!(settled.effect_of(&result(&settled, applied)), contradiction);
    }

    #[test]
    fn a_result_of_another_movement_changes_nothing() {
        let pending = record(None);
        let mut other = result(&pending, Outcome::Refused(Reason::InsufficientFunds));
        other.amount = Amount::parse("101", pending.currency).unwrap();
        let contradiction = Effect::Contradicts(Contradiction::Movement);
        assert_eq!(pending.effect_of(&other), contradiction);
    }

    #[test]
    fn a_key_is_the_same_bare_or_quoted() {
        let bare = IdempotencyKey::parse("a-1").unwrap();
        assert_eq!(IdempotencyKey::parse("\"a-1\""), Some(bare));
        assert_eq!(IdempotencyKey::parse(r#""a\"b""#).unwrap().as_str(), "a\"b");
        let long = "k".repeat(256);
        for bad in ["", "\"\"", "a b", "\"a", "\"a\"b\"", r#""a\n""#, "é", "a\tb", &long] {
            assert_eq!(IdempotencyKey::parse(bad), None, "{bad:?}");
        }
        assert!(IdempotencyKey::parse(&"k".repeat(255)).is_some());
    }
}
