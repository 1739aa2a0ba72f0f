//! Accounts with entries of chosen times, and their statements.

use std::{ops::ControlFlow, time::Duration};

use contract::{AccountId, Currency, Kind};
use report_document::{Entries, Entry, EntryFile, EntryWriter, Statement};
use reporting::{AccountInfo, Accounts, Ledger, Period, StatementError, StatementSources};
use runtime::postgres::PgPool;
use rust_decimal::Decimal;
use tests::Stack;
use time::OffsetDateTime;
use uuid::Uuid;

/// Both databases, and the reports' view of them.
pub(super) struct Books {
    pub(super) accounts: PgPool,
    pub(super) transactions: PgPool,
    pub(super) ledger: Ledger,
    reported_accounts: Accounts,
    directory: std::path::PathBuf,
}

impl Books {
    pub(super) async fn of(stack: &Stack) -> Self {
        let urls = stack.file().databases;
        Self {
            accounts: stack.accounts().await,
            transactions: stack.ledger().await,
            ledger: Ledger::new(&urls.transaction).unwrap(),
            reported_accounts: Accounts::new(&urls.account).unwrap(),
            directory: stack.dir.clone(),
        }
    }

    /// Opens an account, in the account database only.
    pub(super) async fn open(&self, currency: &str, at: OffsetDateTime) -> AccountId {
        let account = AccountId::new();
        sqlx::query(
            "INSERT INTO accounts (account_id, owner_id, currency, created_at)
             VALUES ($1, 'owner', $2, $3)",
        )
        .bind(account.as_uuid())
        .bind(currency)
        .bind(at)
        .execute(&self.accounts)
        .await
        .unwrap();
        account
    }

    /// Writes an account's whole history into the ledger, in the order given.
    pub(super) async fn write(
        &self,
        account: AccountId,
        currency: &str,
        entries: &[(OffsetDateTime, Kind, Decimal)],
    ) {
        let mut balance = Decimal::ZERO;
        let balances: Vec<Decimal> = entries
            .iter()
            .map(|(_, kind, amount)| {
                balance += if *kind == Kind::Deposit { *amount } else { -amount };
                balance
            })
            .collect();
        sqlx::query(
            "INSERT INTO accounts (account_id, currency, balance, account_seq)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(account.as_uuid())
        .bind(currency)
        .bind(balance)
        .bind(i64::try_from(entries.len()).unwrap())
        .execute(&self.transactions)
        .await
        .unwrap();
        // Without triggers: statements read no chains, and thousands of links of one account in one
        // transaction would take seconds.
        let mut transaction = self.transactions.begin().await.unwrap();
        sqlx::raw_sql("SET LOCAL session_replication_role = replica")
            .execute(&mut *transaction)
            .await
            .unwrap();
        let ids: Vec<_> = entries.iter().map(|_| Uuid::now_v7()).collect();
        let times: Vec<_> = entries.iter().map(|entry| entry.0).collect();
        let kinds: Vec<_> = entries.iter().map(|entry| entry.1.as_str()).collect();
        let amounts: Vec<_> = entries.iter().map(|entry| entry.2).collect();
        sqlx::query(
            "INSERT INTO transactions (record_id, account_id, type, amount, currency, status,
                 balance_after, account_seq, created_at)
             SELECT record_id, $1, type, amount, $2, 'SUCCESS', balance, seq, at
             FROM unnest($3::uuid[], $4::text[], $5::numeric[], $6::numeric[], $7::timestamptz[])
                 WITH ORDINALITY AS entry (record_id, type, amount, balance, at, seq)
             ORDER BY seq",
        )
        .bind(account.as_uuid())
        .bind(currency)
        .bind(ids)
        .bind(kinds)
        .bind(amounts)
        .bind(balances)
        .bind(times)
        .execute(&mut *transaction)
        .await
        .unwrap();
        transaction.commit().await.unwrap();
    }

    /// The account's row in the account database.
    pub(super) async fn info(&self, stack: &Stack, account: AccountId) -> AccountInfo {
        let accounts = Accounts::new(&stack.file().databases.account).unwrap();
        accounts.find(account).await.unwrap().unwrap()
    }

    /// What a statement is read from.
    pub(super) const fn sources(&self) -> StatementSources<'_> {
        StatementSources { ledger: &self.ledger, accounts: &self.reported_accounts }
    }

    pub(super) async fn statement(
        &self,
        info: &AccountInfo,
        period: &Period,
    ) -> Result<(Statement, Vec<Entry>), StatementError> {
        let path = self.directory.join(format!("{}.ndjson", Uuid::now_v7()));
        let statement = reporting::statement(
            self.sources(),
            info,
            period,
            "Passbook",
            Duration::from_secs(20),
            EntryWriter::create(&path).unwrap(),
            |progress| {
                assert!(progress.done <= progress.total, "{progress:?}");
                ControlFlow::Continue(())
            },
        )
        .await?;
        let entries = EntryFile::new(path).open().unwrap().map(Result::unwrap).collect();
        Ok((statement, entries))
    }
}

/// An unopened account.
pub(super) fn unopened(currency: &str) -> AccountInfo {
    AccountInfo {
        account_id: AccountId::new(),
        owner_id: "owner".to_owned(),
        currency: Currency::parse(currency).unwrap(),
        created_at: OffsetDateTime::UNIX_EPOCH,
    }
}

pub(super) fn period(from: &str, to: &str, zone: &str) -> Period {
    Period::parse(from, to, zone, OffsetDateTime::now_utc()).unwrap()
}
