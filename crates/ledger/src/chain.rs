//! The chain of an account: hashes over all of its transactions, in their order.
//!
//! The transactions of one account that are decided in one commit are a link of its chain. The
//! hash of a link covers these transactions and the hash of the link before. The database computes
//! it under the lock of the account, by the functions of the migration `create_chains`; this is the
//! same form for whoever checks it. So no lock is taken for the chain, and a batch of any size costs
//! one hash for each of its accounts.
//!
//! The first byte of a link is the version of its form. The form of a version never changes.
//!
//! A link does not cover the ids of its transactions, which the database assigns after it computed
//! the hash. Each record of the account-service has the id, too.

use rust_decimal::Decimal;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use contract::{Amount, Currency, Kind, Reason, RecordId};

/// The result of SHA-256.
pub type Hash = [u8; 32];

/// The hash before the first link.
pub const NO_LINK: Hash = [0; 32];

const VERSION: u8 = 1;
/// The decimals of amounts and balances in the database.
const SCALE: u32 = 4;
/// 2000-01-01, from where PostgreSQL counts, as Unix time.
const POSTGRES_EPOCH: i128 = 946_684_800_000_000;

/// A transaction in its chain, as the database has it.
#[derive(Debug, Clone, Copy)]
pub struct ChainEntry<'a> {
    /// The record.
    pub record_id: Uuid,
    /// `DEPOSIT` or `WITHDRAWAL`.
    pub kind: &'a str,
    /// The amount.
    pub amount: Decimal,
    /// The currency's code.
    pub currency: &'a str,
    /// `SUCCESS` or `FAILED`.
    pub status: &'a str,
    /// The reason of a refusal.
    pub reason: Option<&'a str>,
}

impl ChainEntry<'_> {
    /// An entry that the ledger has decided.
    #[must_use]
    pub fn new(
        record_id: RecordId,
        kind: Kind,
        amount: Amount,
        currency: Currency,
        refusal: Option<Reason>,
    ) -> ChainEntry<'static> {
        ChainEntry {
            record_id: record_id.as_uuid(),
            kind: kind.as_str(),
            amount: amount.as_decimal(),
            currency: currency.code(),
            status: if refusal.is_some() { "FAILED" } else { "SUCCESS" },
            reason: refusal.map(Reason::as_str),
        }
    }
}

/// Hashes the contents of a link: the applied transactions in the order of their `account_seq`, then
/// the refusals by record id.
#[derive(Debug, Clone, Default)]
pub struct Contents(Sha256);

impl Contents {
    /// Adds a transaction.
    pub fn add(&mut self, entry: &ChainEntry<'_>) {
        self.0.update(entry.record_id.as_bytes());
        let amount = decimal(entry.amount);
        let fields = [Some(entry.kind), Some(&amount), Some(entry.currency), Some(entry.status)];
        for field in fields.into_iter().chain([entry.reason]) {
            let bytes = field.map(str::as_bytes);
            let length = bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            self.0.update(length.to_be_bytes());
            self.0.update(bytes.unwrap_or_default());
        }
    }

    /// The hash of what was added.
    #[must_use]
    pub fn hash(self) -> Hash {
        self.0.finalize().into()
    }
}

/// A link of an account's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The account.
    pub account_id: Uuid,
    /// 1, 2, 3 …
    pub number: i64,
    /// The `account_seq` and the balance after its last applied transaction; `None` if it has
    /// refusals only.
    pub state: Option<(i64, Decimal)>,
    /// The time of its transactions.
    pub at: OffsetDateTime,
    /// See [`Contents`].
    pub contents: Hash,
}

impl Link {
    /// The hash of the link after one with the hash `previous`.
    #[must_use]
    pub fn hash(&self, previous: &Hash) -> Hash {
        let (account_seq, balance) = self.state.unzip();
        let microseconds = self.at.unix_timestamp_nanos() / 1_000 - POSTGRES_EPOCH;
        // A time of PostgreSQL always fits.
        let microseconds = i64::try_from(microseconds).unwrap_or(i64::MAX);
        let mut hash = Sha256::new();
        hash.update([VERSION]);
        hash.update(previous);
        hash.update(self.account_id.as_bytes());
        hash.update(self.number.to_be_bytes());
        hash.update(account_seq.unwrap_or(0).to_be_bytes());
        hash.update(microseconds.to_be_bytes());
        hash.update(self.contents);
        hash.update(balance.map(decimal).unwrap_or_default());
        hash.finalize().into()
    }
}

/// As PostgreSQL prints a `numeric(22, 4)`.
fn decimal(mut decimal: Decimal) -> String {
    decimal.rescale(SCALE);
    decimal.to_string()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use uuid::uuid;

    use super::*;

    fn hex(hash: Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn contents(entries: &[ChainEntry<'_>]) -> Hash {
        let mut contents = Contents::default();
        entries.iter().for_each(|entry| contents.add(entry));
        contents.hash()
    }

    const DEPOSIT: ChainEntry<'static> = ChainEntry {
        record_id: uuid!("01a20008-a38b-7161-bca5-0ac401b01de7"),
        kind: "DEPOSIT",
        amount: Decimal::ONE_HUNDRED,
        currency: "KRW",
        status: "SUCCESS",
        reason: None,
    };
    const REFUSAL: ChainEntry<'static> = ChainEntry {
        kind: "WITHDRAWAL",
        status: "FAILED",
        reason: Some("INSUFFICIENT_FUNDS"),
        ..DEPOSIT
    };

    fn link() -> Link {
        Link {
            account_id: uuid!("01a20008-a367-77bd-a6bf-eaa3667171b3"),
            number: 3,
            state: Some((7, Decimal::new(1_000_500, 2))),
            at: datetime!(2026-11-21 21:34:55.943571 UTC),
            contents: contents(&[DEPOSIT, REFUSAL]),
        }
    }

    /// The hashes are PostgreSQL's, by the functions of the migration.
    #[test]
    fn the_form_never_changes() {
        assert_eq!(
            hex(contents(&[DEPOSIT])),
            "bfaa5621504f35b3897a2c266d0e5055f1ddc06a08791ad663b00546ac96643d"
        );
        assert_eq!(
            hex(contents(&[DEPOSIT, REFUSAL])),
            "2fffc320f787e5b867b3711c5d663a223a7557d930f1219db9823dab8ffdcd10"
        );
        assert_eq!(
            hex(link().hash(&NO_LINK)),
            "1037387933e27c6763d9ff22f5880ca406a573c3a5b6a1135e514c8dc4ca008e"
        );
        assert_eq!(
            hex(Link { state: None, ..link() }.hash(&[9; 32])),
            "d92693feae91213e7be8e94a11e304f2118a62143fc924edb2f0fedb38e4317d"
        );
    }

    #[test]
    fn every_part_of_a_link_changes_its_hash() {
        let hash = link().hash(&NO_LINK);
        for other in [
            Link { account_id: Uuid::nil(), ..link() },
            Link { number: 4, ..link() },
            Link { state: None, ..link() },
            Link { state: Some((8, Decimal::new(1_000_500, 2))), ..link() },
            Link { state: Some((7, Decimal::new(1_000_501, 2))), ..link() },
            Link { at: datetime!(2026-11-21 21:34:55.943572 UTC), ..link() },
            Link { contents: NO_LINK, ..link() },
        ] {
            assert_ne!(other.hash(&NO_LINK), hash, "{other:?}");
        }
        assert_ne!(link().hash(&[1; 32]), hash);
    }

    #[test]
    fn every_field_of_an_entry_changes_the_contents() {
        let all = [
            DEPOSIT,
            ChainEntry { record_id: Uuid::nil(), ..DEPOSIT },
            ChainEntry { kind: "WITHDRAWAL", ..DEPOSIT },
            ChainEntry { amount: Decimal::TEN, ..DEPOSIT },
            ChainEntry { currency: "EUR", ..DEPOSIT },
            ChainEntry { currency: "KRWS", status: "UCCESS", ..DEPOSIT },
            ChainEntry { status: "FAILED", ..DEPOSIT },
            ChainEntry { reason: Some(""), ..DEPOSIT },
            REFUSAL,
        ];
        for (index, entry) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert_ne!(contents(&[*entry]), contents(&[*other]), "{entry:?} {other:?}");
            }
        }
        let trailing_zeros = ChainEntry { amount: Decimal::new(1_000_000, 4), ..DEPOSIT };
        assert_eq!(contents(&[trailing_zeros]), contents(&[DEPOSIT]));
    }
}
