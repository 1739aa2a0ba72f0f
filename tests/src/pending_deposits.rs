//! PENDING deposits or withdrawals, stored as a crash of the account-service between commit and
//! dispatch leaves them.

use runtime::postgres::PgPool;
use uuid::Uuid;

/// What the deposits have in common.
#[derive(Debug, Clone, Copy)]
pub struct PendingDeposits<'a> {
    pub account: &'a str,
    pub currency: &'a str,
    /// `DEPOSIT`, or `WITHDRAWAL` for withdrawals instead.
    pub kind: &'a str,
    /// Whether the redrive may claim them at once, or only in twelve minutes.
    pub due: bool,
}

impl<'a> PendingDeposits<'a> {
    /// Deposits in KRW, due for a redrive at once.
    #[must_use]
    pub const fn of(account: &'a str) -> Self {
        Self { account, currency: "KRW", kind: "DEPOSIT", due: true }
    }

    /// The same, due in twelve minutes. Only a record that was redriven often can be due so late.
    #[must_use]
    pub const fn not_due(self) -> Self {
        Self { due: false, ..self }
    }

    /// Stores deposits with these record ids and amounts.
    pub async fn store<'r>(
        &self,
        accounts: &PgPool,
        deposits: impl IntoIterator<Item = (&'r str, i64)>,
    ) {
        let deposits = deposits.into_iter();
        let (ids, amounts): (Vec<_>, Vec<_>) =
            deposits.map(|(id, amount)| (Uuid::parse_str(id).unwrap(), amount)).unzip();
        sqlx::query(
            "INSERT INTO transaction_records
                 (id, account_id, idempotency_key, request_hash, user_id, type, amount, currency,
                  redrive_at, redrives)
             SELECT id, $1, id::text, '', 'teller', $6, amount, $2,
                 CASE WHEN $3 THEN NULL ELSE now() + interval '12 minutes' END,
                 CASE WHEN $3 THEN 0 ELSE 11 END
             FROM unnest($4::uuid[], $5::bigint[]) AS pending (id, amount)",
        )
        .bind(Uuid::parse_str(self.account).unwrap())
        .bind(self.currency)
        .bind(self.due)
        .bind(ids)
        .bind(amounts)
        .bind(self.kind)
        .execute(accounts)
        .await
        .unwrap();
    }
}
