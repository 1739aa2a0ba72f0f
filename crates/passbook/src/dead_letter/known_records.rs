//! The records of dead letters, as the databases have them.

use std::collections::{BTreeMap, HashMap};

use contract::{AccountId, Movement, RecordId};
use ledger::{Account, Entry, Settlement};

/// Some records at the time of the lookup.
#[derive(Debug, Default)]
pub struct KnownRecords {
    pub records: HashMap<RecordId, KnownRecord>,
    pub transactions: HashMap<RecordId, KnownTransaction>,
    /// The records' accounts in the ledger.
    pub accounts: BTreeMap<AccountId, Account>,
    /// Records with a row that this release can't read, for example one written by a newer
    /// release. They concern their own letters only.
    pub invalid: HashMap<RecordId, String>,
}

/// A record of the account-service.
#[derive(Debug)]
pub struct KnownRecord {
    pub movement: Movement,
    /// `None` for a PENDING record.
    pub settlement: Option<Settlement>,
}

/// A transaction of the ledger.
#[derive(Debug)]
pub struct KnownTransaction {
    pub entry: Entry,
    pub settlement: Settlement,
}
