//! The chains of the ledger: what somebody with access to its database changes, `passbook verify`
//! finds.

use std::path::{Path, PathBuf};

use runtime::postgres::PgPool;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tests::{Client, Stack, client::new_key, invariants, process};

/// Made by `openssl genpkey -algorithm ed25519`.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIEQN2qYHYNbm0Uv2sNTd6wCQo3jwbZk8qJkMzv0Gk5tN\n\
    -----END PRIVATE KEY-----\n";

/// Remembers the ledger as it is.
const KEEP: &str = "CREATE TABLE kept_accounts AS SELECT * FROM accounts;
    CREATE TABLE kept_transactions AS SELECT * FROM transactions";
const RESTORE: &str = "DELETE FROM transactions;
    DELETE FROM accounts;
    INSERT INTO accounts SELECT * FROM kept_accounts;
    INSERT INTO transactions OVERRIDING SYSTEM VALUE SELECT * FROM kept_transactions";

/// Exported heads and the public key of their signature.
struct ExportedHeads {
    file: PathBuf,
    key: PathBuf,
}

impl ExportedHeads {
    async fn of(stack: &Stack, name: &str) -> (Self, Value) {
        let path = |name: String| stack.dir.join(name);
        let (file, key) = (path(format!("{name}.jsonl")), path(format!("{name}.key")));
        std::fs::write(&key, KEY).unwrap();
        let output = process::run(&[
            "heads",
            "export",
            text(&file),
            "--signing-key",
            text(&key),
            "-o",
            "json",
            "--dir",
            text(&stack.dir),
        ])
        .await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let exported: Value = serde_json::from_slice(&output.stdout).unwrap();
        let key = path(format!("{name}.pem"));
        std::fs::write(&key, exported["publicKey"].as_str().unwrap()).unwrap();
        (Self { file, key }, exported)
    }

    /// Verifies with these heads. Gives the exit code, and the report or stderr.
    async fn verify(&self, stack: &Stack) -> (i32, Value) {
        let output = process::run(&[
            "verify",
            "-o",
            "json",
            "--heads",
            text(&self.file),
            "--heads-public-key",
            text(&self.key),
            "--dir",
            text(&stack.dir),
        ])
        .await;
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), report)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn execute(ledger: &PgPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(ledger)
        .await
        .unwrap_or_else(|error| panic!("{statements}: {error}"));
}

async fn links(ledger: &PgPool, account: &str) -> i64 {
    sqlx::query_scalar("SELECT chain_link FROM accounts WHERE account_id = $1::uuid")
        .bind(account)
        .fetch_one(ledger)
        .await
        .unwrap()
}

/// The finding of a check about the account.
fn finding(report: &Value, check: &str, account: &str) -> String {
    let findings = report[check]["first"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    let findings: Vec<_> = findings.iter().map(|finding| finding.as_str().unwrap()).collect();
    let about = findings.iter().find(|finding| finding.contains(account));
    about.map(|finding| (*finding).to_owned()).unwrap_or_default()
}

/// An account with four links: deposits of 100 and 20, a refusal, and a deposit of 5.
async fn account_with_four_links(client: &Client) -> String {
    let account = client.open_account("KRW").await;
    client.deposit(&account, "100").await;
    client.deposit(&account, "20").await;
    client.withdraw(&account, "1000").await;
    client.deposit(&account, "5").await;
    account
}

#[tokio::test]
async fn each_change_of_the_history_is_named() {
    let stack = Stack::start("chains").await;
    let client = Client::teller(&stack);
    let other = client.open_account("EUR").await;
    client.deposit(&other, "7").await;
    let account = account_with_four_links(&client).await;
    let clean = invariants::assert_verified(&stack).await;
    assert_eq!(clean["chained"]["compared"], 2, "{clean:#}");
    let ledger = stack.ledger().await;
    assert_eq!(links(&ledger, &account).await, 4);
    execute(&ledger, KEEP).await;
    for (what, damage, named) in [
        (
            "a changed amount, with every sum to match",
            "UPDATE transactions SET amount = amount + 1 WHERE account_id = @ AND account_seq = 2;
             UPDATE transactions SET balance_after = balance_after + 1
             WHERE account_id = @ AND account_seq >= 2;
             UPDATE accounts SET balance = balance + 1 WHERE account_id = @",
            "link 2 (accountSeq 2)",
        ),
        (
            "a changed time",
            "UPDATE transactions SET created_at = created_at - interval '1 day'
             WHERE account_id = @ AND account_seq = 1",
            "link 1 (accountSeq 1)",
        ),
        (
            "a changed reason",
            "UPDATE transactions SET reason = 'CURRENCY_MISMATCH'
             WHERE account_id = @ AND status = 'FAILED'",
            "link 3 (refusals after accountSeq 2)",
        ),
        (
            "a deleted deposit",
            "DELETE FROM transactions WHERE account_id = @ AND account_seq = 2",
            "link 3 after link 1 (after accountSeq 1)",
        ),
        (
            "a deleted refusal",
            "DELETE FROM transactions WHERE account_id = @ AND status = 'FAILED'",
            "link 4 after link 2 (after accountSeq 2)",
        ),
        (
            "the last deposit deleted",
            "DELETE FROM transactions WHERE account_id = @ AND account_seq = 3",
            "ends with link 3 (accountSeq 2)",
        ),
        (
            "a swapped pair of records",
            "WITH pair AS (
                 DELETE FROM transactions WHERE account_id = @ AND account_seq < 3 RETURNING *
             )
             INSERT INTO kept_pair SELECT * FROM pair;
             INSERT INTO transactions (record_id, account_id, type, amount, currency, status, reason,
                 balance_after, account_seq, created_at, chain_link, chain_hash)
             SELECT other.record_id, a.account_id, a.type, a.amount, a.currency, a.status, a.reason,
                 a.balance_after, a.account_seq, a.created_at, a.chain_link, a.chain_hash
             FROM kept_pair a JOIN kept_pair other ON other.account_seq = 3 - a.account_seq",
            "link 1 (accountSeq 1)",
        ),
        (
            "swapped links",
            "UPDATE transactions SET chain_link = 5 - chain_link
             WHERE account_id = @ AND chain_link IN (2, 3)",
            "link 2",
        ),
        (
            "a row inserted into a link",
            "INSERT INTO transactions (record_id, account_id, type, amount, currency, status, reason,
                 created_at, chain_link, chain_hash)
             SELECT gen_random_uuid(), account_id, type, amount, currency, status, reason, created_at,
                 chain_link, chain_hash
             FROM transactions WHERE account_id = @ AND status = 'FAILED'",
            "link 3 (refusals after accountSeq 2)",
        ),
        (
            "a row inserted without a link",
            "ALTER TABLE transactions DISABLE TRIGGER transactions_add_link;
             INSERT INTO transactions (record_id, account_id, type, amount, currency, status, reason)
             VALUES (gen_random_uuid(), @, 'DEPOSIT', 1, 'KRW', 'FAILED', 'CURRENCY_MISMATCH');
             ALTER TABLE transactions ENABLE TRIGGER transactions_add_link",
            "has no link",
        ),
        (
            "another head",
            "UPDATE accounts SET chain_hash = sha256('') WHERE account_id = @",
            "names link 4 as the last of its chain",
        ),
    ] {
        execute(&ledger, "CREATE TABLE kept_pair (LIKE transactions)").await;
        execute(&ledger, &damage.replace('@', &format!("'{account}'"))).await;
        let (code, report) = invariants::verify(&stack).await;
        assert_eq!((code, &report["chained"]["findings"]), (1, &json!(1)), "{what}: {report:#}");
        let finding = finding(&report, "chained", &account);
        assert!(finding.contains(named), "{what}: {finding}");
        execute(&ledger, RESTORE).await;
        execute(&ledger, "DROP TABLE kept_pair").await;
        invariants::assert_verified(&stack).await;
    }
}

#[tokio::test]
async fn exported_heads_show_what_a_whole_chain_hides() {
    let stack = Stack::start("heads").await;
    let client = Client::teller(&stack);
    let account = account_with_four_links(&client).await;
    let other = client.open_account("KRW").await;
    client.deposit(&other, "7").await;
    let (heads, exported) = ExportedHeads::of(&stack, "heads").await;
    assert_eq!(exported["heads"], 2, "{exported:#}");
    let (code, report) = heads.verify(&stack).await;
    let compared = &report["exported"]["compared"];
    assert_eq!((code, compared), (0, &json!(2)), "{report:#}");
    // Later movements change no exported head.
    client.deposit(&account, "1").await;
    client.withdraw(&other, "1000").await;
    assert_eq!(heads.verify(&stack).await.0, 0);
    let ledger = stack.ledger().await;
    execute(&ledger, KEEP).await;
    for (what, damage, named, chained) in [
        (
            "a truncated chain",
            "DELETE FROM transactions WHERE account_id = @ AND account_seq >= 3;
             UPDATE accounts a SET balance = t.balance_after, account_seq = t.account_seq
             FROM transactions t WHERE a.account_id = @ AND t.account_id = @ AND t.account_seq = 2;
             UPDATE accounts a SET chain_link = t.chain_link, chain_hash = t.chain_hash
             FROM transactions t WHERE a.account_id = @ AND t.account_id = @ AND t.chain_link = 3",
            "had link 4 (accountSeq 3), which is no longer there",
            "",
        ),
        (
            "a chain that was computed again",
            "DELETE FROM transactions WHERE account_id = @ AND chain_link > 3;
             UPDATE accounts a SET chain_link = t.chain_link, chain_hash = t.chain_hash
             FROM transactions t WHERE a.account_id = @ AND t.account_id = @ AND t.chain_link = 3;
             INSERT INTO transactions (record_id, account_id, type, amount, currency, status,
                 balance_after, account_seq, created_at)
             SELECT record_id, account_id, type, 6, currency, status, 126, 3, created_at
             FROM kept_transactions WHERE account_id = @ AND account_seq = 3;
             UPDATE accounts SET balance = 126, account_seq = 3 WHERE account_id = @",
            "had link 4 (accountSeq 3), which has another hash",
            "",
        ),
        (
            "a chain that was removed",
            "UPDATE transactions SET chain_link = NULL, chain_hash = NULL WHERE account_id = @;
             UPDATE accounts SET chain_link = 0, chain_hash = DEFAULT WHERE account_id = @",
            "had link 4 (accountSeq 3), which is no longer there",
            "the ledger has linked every transaction since",
        ),
        (
            "an account that was removed",
            "DELETE FROM transactions WHERE account_id = @; DELETE FROM accounts WHERE account_id = @",
            "had link 4 (accountSeq 3), and is no longer there",
            "",
        ),
    ] {
        execute(&ledger, &damage.replace('@', &format!("'{account}'"))).await;
        let (code, report) = heads.verify(&stack).await;
        assert_eq!(code, 1, "{what}: {report:#}");
        // Without the heads, only a whole history without links is found.
        let found = usize::from(!chained.is_empty());
        assert_eq!(report["chained"]["findings"], found, "{what}: {report:#}");
        assert!(finding(&report, "chained", &account).contains(chained), "{what}: {report:#}");
        assert_eq!(report["exported"]["findings"], 1, "{what}: {report:#}");
        let finding = finding(&report, "exported", &account);
        assert!(finding.contains(named), "{what}: {finding}");
        execute(&ledger, RESTORE).await;
        assert_eq!(heads.verify(&stack).await.0, 0, "{what}");
    }
}

#[tokio::test]
async fn heads_that_were_changed_or_signed_by_another_key_are_rejected() {
    let stack = Stack::start("changed-heads").await;
    let client = Client::teller(&stack);
    account_with_four_links(&client).await;
    let (heads, _) = ExportedHeads::of(&stack, "heads").await;
    let content = std::fs::read_to_string(&heads.file).unwrap();
    std::fs::write(&heads.file, content.replace("\"link\":4", "\"link\":3")).unwrap();
    let (code, error) = heads.verify(&stack).await;
    assert_eq!(code, 2, "{error}");
    assert!(error.as_str().unwrap().contains("the file was changed"), "{error}");
    std::fs::write(&heads.file, &content).unwrap();
    assert_eq!(heads.verify(&stack).await.0, 0);
    let other_key = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAFOyIUjVMQwjWEX95pl2oII+n/tcLBpMa4DfBaSE+wJ0=\n-----END PUBLIC KEY-----\n";
    std::fs::write(&heads.key, other_key).unwrap();
    let (code, error) = heads.verify(&stack).await;
    assert_eq!(code, 2, "{error}");
    assert!(error.as_str().unwrap().contains("another key"), "{error}");
    // An export replaces nothing.
    let again = ["heads", "export", text(&heads.file), "--signing-key"];
    let key = heads.file.with_extension("key");
    let output =
        process::run(&[&again[..], &[text(&key), "--dir", text(&stack.dir)]].concat()).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(std::fs::read_to_string(&heads.file).unwrap(), content);
}

/// What the release before does: it writes no link.
fn old_release(account: &str) -> String {
    format!(
        "BEGIN;
         SET LOCAL ROLE transaction_service;
         UPDATE accounts SET balance = balance + 3, account_seq = account_seq + 2,
             updated_at = greatest(updated_at, clock_timestamp())
         WHERE account_id = '{account}';
         INSERT INTO transactions (record_id, account_id, type, amount, currency, status, reason,
             balance_after, account_seq, created_at)
         SELECT gen_random_uuid(), account_id, 'DEPOSIT', 1, currency, 'SUCCESS', NULL, balance - 2,
             account_seq - 1, updated_at
         FROM accounts WHERE account_id = '{account}'
         UNION ALL
         SELECT gen_random_uuid(), account_id, 'WITHDRAWAL', 10000, currency, 'FAILED',
             'INSUFFICIENT_FUNDS', NULL, NULL, updated_at
         FROM accounts WHERE account_id = '{account}'
         UNION ALL
         SELECT gen_random_uuid(), account_id, 'DEPOSIT', 2, currency, 'SUCCESS', NULL, balance,
             account_seq, updated_at
         FROM accounts WHERE account_id = '{account}';
         COMMIT"
    )
}

#[tokio::test]
async fn rows_of_older_releases_and_from_before_the_chains_are_no_finding() {
    let stack = Stack::start("chains-of-older-releases").await;
    let client = Client::teller(&stack);
    let account = account_with_four_links(&client).await;
    let ledger = stack.ledger().await;
    // As if the migration had come now.
    execute(
        &ledger,
        "UPDATE transactions SET chain_link = NULL, chain_hash = NULL;
         UPDATE accounts SET chain_link = 0, chain_hash = DEFAULT;
         UPDATE _sqlx_migrations SET installed_on = CASE
             WHEN version < 20261129190001 THEN now() - interval '2 days' ELSE now() END",
    )
    .await;
    invariants::assert_verified(&stack).await;
    client.withdraw(&account, "1000").await;
    client.deposit(&account, "5").await;
    invariants::assert_verified(&stack).await;
    assert_eq!(links(&ledger, &account).await, 2);
    let sound = async |expected| {
        let (_, report) = invariants::verify(&stack).await;
        assert_eq!(report["chained"]["findings"], 0, "{report:#}");
        assert_eq!(report["conserved"]["findings"], 0, "{report:#}");
        assert_eq!(links(&ledger, &account).await, expected);
    };
    // Both releases write in turn, in batches, and the old one to a new account, too.
    execute(&ledger, &old_release(&account)).await;
    sound(5).await;
    let item = |kind: &str, amount: &str| {
        json!({ "accountId": account, "type": kind, "amount": amount,
                "idempotencyKey": new_key() })
    };
    let items = [item("DEPOSIT", "4"), item("WITHDRAWAL", "1000000"), item("DEPOSIT", "2")];
    let wait = [("Prefer", "wait=10")];
    let response = client.post("/v1/batches", &wait, &json!({ "items": items })).await;
    assert_eq!(response.status, 200, "{response:?}");
    let before = links(&ledger, &account).await;
    sound(before).await;
    execute(&ledger, &old_release(&account)).await;
    sound(before + 3).await;
    client.deposit(&account, "1").await;
    sound(before + 4).await;
}
