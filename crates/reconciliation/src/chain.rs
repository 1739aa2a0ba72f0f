//! Follows the chain of one account: see [`ledger::chain`].

use ledger::chain::{ChainEntry, Contents, Hash, Link, NO_LINK};
use rust_decimal::Decimal;
use sqlx::FromRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{balances::account, check::Finding};

/// A transaction of the account.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct ChainedRow {
    pub(crate) record_id: Uuid,
    pub(crate) r#type: String,
    pub(crate) amount: Decimal,
    pub(crate) currency: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) balance_after: Option<Decimal>,
    pub(crate) account_seq: Option<i64>,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) chain_link: Option<i64>,
    pub(crate) chain_hash: Option<Vec<u8>>,
}

impl ChainedRow {
    fn chain_entry(&self) -> ChainEntry<'_> {
        ChainEntry {
            record_id: self.record_id,
            kind: &self.r#type,
            amount: self.amount,
            currency: &self.currency,
            status: &self.status,
            reason: self.reason.as_deref(),
        }
    }
}

/// A chain up to a transaction.
#[derive(Debug)]
pub(crate) struct Chain {
    account_id: Uuid,
    /// Every later transaction has a link.
    linked_since: OffsetDateTime,
    /// The `account_seq` and the balance after the last applied transaction.
    seq: i64,
    balance: Decimal,
    /// The number of the last complete link and its hash.
    number: i64,
    hash: Hash,
    open: Option<OpenLink>,
    /// The newest transaction without a link: its time and its record.
    unlinked: Option<(OffsetDateTime, Uuid)>,
    finding: Option<Finding>,
}

/// A link that may have more transactions.
#[derive(Debug)]
struct OpenLink {
    number: i64,
    hash: Option<Vec<u8>>,
    at: OffsetDateTime,
    contents: Contents,
    /// The `account_seq` of its first and last applied transactions.
    seqs: Option<(i64, i64)>,
}

impl Chain {
    /// A chain without a link.
    pub(crate) const fn new(account_id: Uuid, linked_since: OffsetDateTime) -> Self {
        Self {
            account_id,
            linked_since,
            seq: 0,
            balance: Decimal::ZERO,
            number: 0,
            hash: NO_LINK,
            open: None,
            unlinked: None,
            finding: None,
        }
    }

    /// Adds the account's next transaction: first those without a link, then by link. Those of
    /// a link are in the order of its contents.
    pub(crate) fn add(&mut self, row: &ChainedRow) {
        if self.finding.is_some() {
            return;
        }
        let Some(number) = row.chain_link else { return self.add_unlinked(row) };
        if self.open.as_ref().is_none_or(|open| open.number != number) {
            self.close();
            self.open(number, row);
        }
        self.add_linked(row);
    }

    /// The transactions from before the chain have no link. None is newer than the chain.
    fn add_unlinked(&mut self, row: &ChainedRow) {
        if let (Some(seq), Some(balance)) = (row.account_seq, row.balance_after) {
            (self.seq, self.balance) = (seq, balance);
        }
        let (at, record) = (row.created_at, row.record_id);
        self.unlinked = self.unlinked.max(Some((at, record)));
        if at > self.linked_since {
            self.broken(&format!(
                "has no link for the transaction of record {record} at {at}: the ledger has linked \
                 every transaction since {}, so the link was removed, or the transaction inserted",
                self.linked_since
            ));
        }
    }

    fn open(&mut self, number: i64, row: &ChainedRow) {
        if number != self.number + 1 {
            let detail = match self.number {
                0 => format!("begins its chain with link {number}"),
                last => format!("has link {number} after link {last}"),
            };
            self.broken(&format!(
                "{detail} (after accountSeq {}): transactions were deleted or moved",
                self.seq
            ));
        }
        if let Some((at, record)) = self.unlinked.take().filter(|(at, _)| *at > row.created_at) {
            self.broken(&format!(
                "has no link for the transaction of record {record} at {at}, and its chain is older: \
                 the transaction was inserted, or its link removed"
            ));
        }
        self.open = Some(OpenLink {
            number,
            hash: row.chain_hash.clone(),
            at: row.created_at,
            contents: Contents::default(),
            seqs: None,
        });
    }

    fn add_linked(&mut self, row: &ChainedRow) {
        let Some(open) = &mut self.open else { return };
        let record = row.record_id;
        let mut wrong = None;
        if row.chain_hash != open.hash {
            wrong = Some(format!("the transaction of record {record} has another hash"));
        } else if row.created_at != open.at {
            wrong = Some(format!("the transaction of record {record} has another time"));
        }
        if let Some(seq) = row.account_seq {
            let first = open.seqs.map_or(seq, |(first, _)| first);
            open.seqs = Some((first, seq));
            let change = if row.r#type == "DEPOSIT" { row.amount } else { -row.amount };
            let balance = self.balance + change;
            if seq != self.seq + 1 {
                wrong = wrong.or_else(|| Some(format!("accountSeq {} is before it", self.seq)));
            } else if row.balance_after != Some(balance) {
                wrong = wrong.or_else(|| {
                    let balance = balance.normalize();
                    Some(format!("the balance after accountSeq {seq} should be {balance}"))
                });
            }
            (self.seq, self.balance) = (seq, row.balance_after.unwrap_or(balance));
        }
        open.contents.add(&row.chain_entry());
        if let Some(wrong) = wrong {
            let place = open.place(self.seq);
            self.broken(&format!("has a wrong {place}: {wrong}"));
        }
    }

    /// Compares the hash of the open link, after its last transaction.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let place = open.place(self.seq);
        let link = Link {
            account_id: self.account_id,
            number: open.number,
            state: open.seqs.map(|(_, seq)| (seq, self.balance)),
            at: open.at,
            contents: open.contents.hash(),
        };
        let hash = link.hash(&self.hash);
        if open.hash.as_deref() != Some(&hash[..]) {
            self.broken(&format!(
                "has a wrong {place}: its hash is another one, so a transaction was changed, deleted, \
                 inserted or moved"
            ));
        }
        (self.number, self.hash) = (open.number, hash);
    }

    /// Compares the last link with the one that the account names, and returns the first finding.
    pub(crate) fn finish(mut self, number: i64, hash: &[u8]) -> Option<Finding> {
        if self.finding.is_none() {
            self.close();
        }
        if number != self.number || hash != &self.hash[..] {
            self.broken(&format!(
                "names link {number} as the last of its chain, which ends with link {} (accountSeq {}): \
                 the last transactions were deleted, or the account was changed",
                self.number, self.seq
            ));
        }
        self.finding
    }

    /// Keeps the first finding. The others follow from it.
    fn broken(&mut self, detail: &str) {
        let finding = || Finding::new(account(self.account_id), detail);
        if self.finding.is_none() {
            self.finding = Some(finding());
        }
    }
}

impl OpenLink {
    /// `link 3 (accountSeq 5 to 7)`
    fn place(&self, seq: i64) -> String {
        let number = self.number;
        match self.seqs {
            Some((first, last)) if first == last => format!("link {number} (accountSeq {last})"),
            Some((first, last)) => format!("link {number} (accountSeq {first} to {last})"),
            None => format!("link {number} (refusals after accountSeq {seq})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    const ACCOUNT: Uuid = Uuid::from_u128(1);

    /// Transactions of these links: amounts, negative for withdrawals; `None` for a refusal. The
    /// first ones have no link. Also the last link.
    fn rows(unlinked: &[i64], links: &[&[Option<i64>]]) -> (Vec<ChainedRow>, i64, Hash) {
        let (mut rows, mut seq, mut balance) = (Vec::new(), 0, Decimal::ZERO);
        let mut at = OffsetDateTime::UNIX_EPOCH;
        let mut row = |amount: Option<i64>, at, rows: &mut Vec<ChainedRow>| {
            let moved = Decimal::from(amount.unwrap_or(-1_000));
            if amount.is_some() {
                (seq, balance) = (seq + 1, balance + moved);
            }
            rows.push(ChainedRow {
                record_id: Uuid::from_u128(100 + u128::try_from(rows.len()).unwrap()),
                r#type: if moved > Decimal::ZERO { "DEPOSIT" } else { "WITHDRAWAL" }.to_owned(),
                amount: moved.abs(),
                currency: "KRW".to_owned(),
                status: if amount.is_some() { "SUCCESS" } else { "FAILED" }.to_owned(),
                reason: amount.is_none().then(|| "INSUFFICIENT_FUNDS".to_owned()),
                balance_after: amount.map(|_| balance),
                account_seq: amount.map(|_| seq),
                created_at: at,
                chain_link: None,
                chain_hash: None,
            });
            amount.map(|_| (seq, balance))
        };
        for amount in unlinked {
            row(Some(*amount), at, &mut rows);
        }
        let (mut hash, mut number) = (NO_LINK, 0);
        for link in links {
            at += Duration::MINUTE;
            number += 1;
            let begun = rows.len();
            let states: Vec<_> = link.iter().map(|amount| row(*amount, at, &mut rows)).collect();
            let mut contents = Contents::default();
            for row in &rows[begun..] {
                contents.add(&row.chain_entry());
            }
            let state = states.into_iter().flatten().last();
            let contents = contents.hash();
            hash = Link { account_id: ACCOUNT, number, state, at, contents }.hash(&hash);
            for row in &mut rows[begun..] {
                (row.chain_link, row.chain_hash) = (Some(number), Some(hash.to_vec()));
            }
        }
        (rows, number, hash)
    }

    fn follow(rows: &[ChainedRow], number: i64, hash: &Hash) -> Option<String> {
        let linked_since = OffsetDateTime::UNIX_EPOCH + Duration::DAY;
        let mut chain = Chain::new(ACCOUNT, linked_since);
        rows.iter().for_each(|row| chain.add(row));
        chain.finish(number, hash).map(|finding| finding.to_string())
    }

    type Sample = (Vec<ChainedRow>, i64, Hash);

    fn sample() -> Sample {
        rows(&[7], &[&[Some(5)], &[Some(3), Some(-2), None], &[None], &[Some(1)]])
    }

    #[test]
    fn a_chain_is_sound_with_and_without_older_transactions_and_links() {
        for (rows, number, hash) in
            [sample(), rows(&[], &[&[None], &[Some(5)]]), rows(&[5, 5], &[]), rows(&[], &[])]
        {
            assert_eq!(follow(&rows, number, &hash), None);
        }
    }

    #[test]
    fn each_change_is_found_and_named() {
        type Change = fn(&mut Sample);
        let changes: [(&str, Change); 17] = [
            ("accountSeq 2)", |(rows, ..)| rows[1].amount = Decimal::from(6)),
            ("link 2 (accountSeq 3", |(rows, ..)| rows[2].currency = "EUR".to_owned()),
            ("link 1 (accountSeq 2)", |(rows, ..)| rows[1].balance_after = Some(Decimal::from(6))),
            ("link 2 (accountSeq 3 to 4)", |(rows, ..)| rows[4].amount = Decimal::from(6)),
            ("link 3 (refusals", |(rows, ..)| rows[5].reason = Some("X".to_owned())),
            ("another time", |(rows, ..)| rows[3].created_at += Duration::SECOND),
            ("link 1", |(rows, ..)| rows[1].created_at += Duration::SECOND),
            ("begins its chain with link 2", |(rows, ..)| drop(rows.remove(1))),
            ("accountSeq 3)", |(rows, ..)| drop(rows.remove(3))),
            ("link 4 after link 2", |(rows, ..)| drop(rows.remove(5))),
            ("ends with link 3", |(rows, ..)| drop(rows.pop())),
            ("link 2 (", |(rows, ..)| rows.swap(2, 3)),
            ("another hash", |(rows, ..)| rows[3].chain_hash = None),
            ("names link 3", |(_, number, _)| *number = 3),
            ("its chain is older", |(rows, ..)| rows[0].created_at += Duration::HOUR),
            ("since 1970-01-02", |(rows, ..)| rows[0].created_at += Duration::DAY * 2),
            ("since 1970-01-02", |(rows, number, hash)| {
                (*number, *hash) = (0, NO_LINK);
                for row in rows {
                    row.created_at += Duration::DAY * 2;
                    (row.chain_link, row.chain_hash) = (None, None);
                }
            }),
        ];
        for (index, (text, change)) in changes.into_iter().enumerate() {
            let mut sample = sample();
            change(&mut sample);
            let (rows, number, hash) = sample;
            let finding = follow(&rows, number, &hash);
            assert!(
                finding.as_ref().is_some_and(|finding| finding.contains(text)),
                "{index}: {text}: {finding:?}"
            );
        }
    }

    #[test]
    fn a_rewritten_link_breaks_the_next_one() {
        let (mut rows, number, hash) = sample();
        let forged = &mut rows[1];
        forged.record_id = Uuid::from_u128(9);
        let mut contents = Contents::default();
        contents.add(&forged.chain_entry());
        let state = forged.account_seq.zip(forged.balance_after);
        let (at, contents) = (forged.created_at, contents.hash());
        let link = Link { account_id: ACCOUNT, number: 1, state, at, contents };
        forged.chain_hash = Some(link.hash(&NO_LINK).to_vec());
        let finding = follow(&rows, number, &hash).unwrap();
        assert!(finding.contains("link 2"), "{finding}");
    }
}
