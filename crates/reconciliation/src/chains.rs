//! Checks the chains of the ledger, and compares them with exported heads. Ordered by account id.

use std::io;

use futures::{Stream, StreamExt};
use ledger::chain::Hash;
use sqlx::{FromRow, PgConnection, Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, Progress,
    balances::account,
    chain::{Chain, ChainedRow},
    check::Finding,
    findings::Findings,
    rows,
    sources::Connections,
};

/// The last link of an account's chain at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub account_id: Uuid,
    /// The number of the link, 1 or above.
    pub link: i64,
    pub hash: Hash,
    /// The account's number of applied transactions.
    pub account_seq: i64,
}

/// Exported heads in the order of their account ids.
pub type Heads<'a> = &'a mut (dyn Iterator<Item = io::Result<Head>> + Send);

/// An account with its last link and one of its transactions, if it has any.
#[derive(Debug)]
struct AccountRow {
    account_id: Uuid,
    last_link: i64,
    last_hash: Vec<u8>,
    transaction: Option<ChainedRow>,
}

impl FromRow<'_, PgRow> for AccountRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let has_transaction: bool = row.try_get("has_transaction")?;
        Ok(Self {
            account_id: row.try_get("account_id")?,
            last_link: row.try_get("last_link")?,
            last_hash: row.try_get("last_hash")?,
            transaction: has_transaction.then(|| ChainedRow::from_row(row)).transpose()?,
        })
    }
}

/// Reads the heads of all chains as of now, in the order of their account ids.
pub fn heads(ledger: &mut PgConnection) -> impl Stream<Item = Result<Head, Error>> + '_ {
    sqlx::query_as::<_, (Uuid, i64, Vec<u8>, i64)>(
        "SELECT account_id, chain_link, chain_hash, account_seq FROM accounts WHERE chain_link > 0
         ORDER BY account_id",
    )
    .fetch(ledger)
    .map(|row| {
        let (account_id, link, hash, account_seq) = row.map_err(Error::Ledger)?;
        let hash = Hash::try_from(hash).map_err(|hash| {
            let text = format!("account {account_id} has a hash of {} bytes", hash.len());
            Error::Ledger(sqlx::Error::Decode(text.into()))
        })?;
        Ok(Head { account_id, link, hash, account_seq })
    })
}

/// The migration that created the chains.
const MIGRATION: i64 = 20_261_129_190_001;

/// Every transaction with a later time has a link: a trigger adds those that its writer does not
/// know. That is when the migration was applied, and a day for wrong clocks. But a ledger that was
/// created with its chains has no transaction from before them. So the margin is at most the time
/// that the ledger had been without chains.
async fn linked_since(ledger: &mut PgConnection) -> sqlx::Result<OffsetDateTime> {
    let since = sqlx::query_scalar(
        "SELECT chains + least(chains - ledger, interval '1 day')
         FROM (SELECT max(installed_on) FILTER (WHERE version = $1) AS chains,
                   min(installed_on) AS ledger
               FROM _sqlx_migrations) AS migrations",
    );
    let since: Option<OffsetDateTime> =
        rows::answered(since.bind(MIGRATION).fetch_one(ledger)).await?;
    // Somebody removed the row of the migration.
    Ok(since.unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

/// Follows the chain of each account. The heads, if there are any, must be in it.
///
/// # Errors
/// When the database or the heads can't be read.
pub(crate) async fn compare(
    connections: &mut Connections,
    heads: Option<Heads<'_>>,
    progress: &mut (dyn FnMut(Progress) + Send),
    findings: &mut Findings,
) -> Result<(), Error> {
    let linked_since = linked_since(&mut connections.ledger).await.map_err(Error::Ledger)?;
    let mut rows = sqlx::query_as::<_, AccountRow>(
        "SELECT a.account_id, a.chain_link AS last_link, a.chain_hash AS last_hash,
                t.account_id IS NOT NULL AS has_transaction,
                t.record_id, t.type, t.amount, t.currency, t.status, t.reason, t.balance_after,
                t.account_seq, t.created_at, t.chain_link, t.chain_hash
         FROM accounts a LEFT JOIN transactions t ON t.account_id = a.account_id
         ORDER BY a.account_id, t.chain_link NULLS FIRST, t.account_seq NULLS LAST, t.record_id",
    )
    .fetch(&mut connections.ledger);
    let mut exported = Exported::new(heads, findings)?;
    let mut row = rows::next(&mut rows).await.map_err(Error::Ledger)?;
    let mut done = 0;
    while let Some(first) = row.take() {
        let id = first.account_id;
        let mut chain = Chain::new(id, linked_since);
        let mut last = first;
        exported.begin(id, findings)?;
        loop {
            if let Some(transaction) = &last.transaction {
                exported.add(transaction);
                chain.add(transaction);
            }
            row = rows::next(&mut rows).await.map_err(Error::Ledger)?;
            match row.take_if(|row| row.account_id == id) {
                Some(next) => last = next,
                None => break,
            }
        }
        findings.chained.count(chain.finish(last.last_link, &last.last_hash));
        exported.end(findings);
        done += 1;
        progress(Progress::Chains(done));
    }
    exported.finish(findings)
}

/// Compares heads with the chains.
struct Exported<'a> {
    heads: Option<Heads<'a>>,
    next: Option<Head>,
    /// The head of the present account.
    head: Option<Head>,
    /// Whether its link was there, and with its hash.
    is_there: bool,
    is_same: bool,
}

impl<'a> Exported<'a> {
    fn new(heads: Option<Heads<'a>>, findings: &mut Findings) -> Result<Self, Error> {
        let mut exported = Self { heads, next: None, head: None, is_there: false, is_same: false };
        if exported.heads.is_some() {
            findings.expect_heads();
        }
        exported.advance()?;
        Ok(exported)
    }

    fn advance(&mut self) -> Result<(), Error> {
        let next = self.heads.as_mut().and_then(|heads| heads.next());
        self.next = next.transpose().map_err(Error::Heads)?;
        Ok(())
    }

    /// Begins an account. Heads of accounts before it have none.
    fn begin(&mut self, id: Uuid, findings: &mut Findings) -> Result<(), Error> {
        while let Some(gone) = self.next.take_if(|head| head.account_id < id) {
            findings.count_head(Some(missing_account(&gone)));
            self.advance()?;
        }
        self.head = self.next.take_if(|head| head.account_id == id);
        (self.is_there, self.is_same) = (false, false);
        if self.head.is_some() { self.advance() } else { Ok(()) }
    }

    fn add(&mut self, row: &ChainedRow) {
        let Some(head) = self.head.filter(|head| row.chain_link == Some(head.link)) else {
            return;
        };
        self.is_there = true;
        self.is_same |= row.chain_hash.as_deref() == Some(&head.hash[..]);
    }

    fn end(&mut self, findings: &mut Findings) {
        let Some(Head { account_id, link, account_seq, .. }) = self.head.take() else { return };
        let detail = match (self.is_there, self.is_same) {
            (_, true) => None,
            (true, false) => Some("has another hash: its history was written again"),
            (false, false) => Some("is no longer there: the last transactions were deleted"),
        };
        findings.count_head(detail.map(|detail| {
            let detail = format!("had link {link} (accountSeq {account_seq}), which {detail}");
            Finding::new(account(account_id), detail)
        }));
    }

    fn finish(mut self, findings: &mut Findings) -> Result<(), Error> {
        while let Some(gone) = self.next.take() {
            findings.count_head(Some(missing_account(&gone)));
            self.advance()?;
        }
        Ok(())
    }
}

fn missing_account(head: &Head) -> Finding {
    let Head { account_id, link, account_seq, .. } = head;
    let detail = format!("had link {link} (accountSeq {account_seq}), and is no longer there");
    Finding::new(account(*account_id), detail)
}
