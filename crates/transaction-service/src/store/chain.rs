//! The contents of the links that a batch adds, one for each account. The database adds what only it
//! knows under the lock of the account: the link before, the balance and the time.

use std::collections::BTreeMap;

use contract::{AccountId, Command, Outcome};
use ledger::{
    Entry,
    chain::{ChainEntry, Contents, Hash},
};

/// The contents of each account's link, if all commands are applied.
pub(super) fn of_applied(commands: &[Command]) -> BTreeMap<AccountId, Hash> {
    let mut links: BTreeMap<_, Contents> = BTreeMap::new();
    for Command { record_id, account_id, kind, amount, currency, .. } in commands {
        let entry = ChainEntry::new(*record_id, *kind, *amount, *currency, None);
        links.entry(*account_id).or_default().add(&entry);
    }
    hashes(links)
}

/// The contents of each account's link, with these entries in the order of their decision.
pub(super) fn of_decided(entries: &[Entry]) -> BTreeMap<AccountId, Hash> {
    let mut links: BTreeMap<_, Contents> = BTreeMap::new();
    let (mut ordered, mut refused) = (Vec::with_capacity(entries.len()), Vec::new());
    for entry in entries {
        match entry.outcome {
            Outcome::Applied { .. } => ordered.push((entry, None)),
            Outcome::Refused(reason) => refused.push((entry, Some(reason))),
        }
    }
    refused.sort_by_key(|(entry, _)| entry.record_id.as_uuid());
    ordered.append(&mut refused);
    for (Entry { record_id, account_id, kind, amount, currency, .. }, refusal) in ordered {
        let entry = ChainEntry::new(*record_id, *kind, *amount, *currency, refusal);
        links.entry(*account_id).or_default().add(&entry);
    }
    hashes(links)
}

fn hashes(links: BTreeMap<AccountId, Contents>) -> BTreeMap<AccountId, Hash> {
    links.into_iter().map(|(account, contents)| (account, contents.hash())).collect()
}
