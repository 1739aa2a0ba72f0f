//! The id of a transaction is the same wherever a client meets it, and tells nothing of others.

use contract::TransactionId;
use tests::{Client, Response, Stack, client::new_key, stack::initialized_folder};

use super::{Endpoint, SOON, receiver::Receiver};
use crate::reports::statement;

/// The SQL of the runbook.
const PUBLIC_ID: &str = r"encode(substring(sha256(
    convert_to(E'passbook transaction v1\n', 'UTF8') || uuid_send(record_id)) FOR 16), 'hex')";

async fn start() -> Stack {
    let settings = ["PASSBOOK_WEBHOOK_ALLOWED_NETWORKS=127.0.0.1/32".to_owned()];
    let arguments = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "1"];
    let arguments =
        [&arguments[..], &["--webhook-replicas", "1", "--report-replicas", "1"]].concat();
    Stack::start_under(&initialized_folder("transaction-ids").await, &settings, &arguments).await
}

/// The ids in a CSV or camt.053 statement, in the order of its entries.
async fn statement_ids(client: &Client, account: &str) -> [Vec<String>; 2] {
    let report = client.report(&statement(account, &["csv", "camt053"]), 30).await;
    assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
    let file = async |format: &str| {
        let path = format!("/v1/reports/{}/artifacts/{format}", report.text("reportId"));
        String::from_utf8(client.get(&path).await.bytes).unwrap()
    };
    let csv = file("csv").await;
    let entries = csv.lines().filter(|line| line.starts_with("ENTRY,"));
    let csv = entries.map(|line| line.split(',').nth(8).unwrap().to_owned()).collect();
    let camt = file("camt053").await;
    let entries = camt.split("<Refs><AcctSvcrRef>").skip(1);
    [csv, entries.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()]
}

#[tokio::test]
async fn a_movement_has_one_transaction_id_everywhere_and_it_tells_nothing_of_others() {
    let stack = start().await;
    let (client, receiver) = (Client::teller(&stack), Receiver::start().await);
    let owner = Client::merchant(&stack, &new_key());
    Endpoint::create(&owner, &receiver).await;
    let mine = owner.open_account("KRW").await;
    let others = client.open_account("KRW").await;
    // The ledger's own numbers rise through both accounts.
    let (mut own, mut all) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        for (caller, account) in [(&owner, &mine), (&client, &others)] {
            let record = caller.deposit(account, "1").await;
            all.push((stack.transaction_number(record.text("recordId")).await, id(&record)));
            if account == &mine {
                own.push(id(&record));
            }
        }
    }
    assert!(all.is_sorted_by_key(|(number, _)| *number));
    assert!(
        !all.is_sorted_by_key(|(_, id)| id) && !all.iter().rev().is_sorted_by_key(|(_, id)| id)
    );
    assert!(all.iter().all(|(_, id)| id.parse::<TransactionId>().is_ok()), "{all:?}");

    let log = owner.get("/v1/events?type=record.succeeded").await;
    let items = log.body["items"].as_array().unwrap();
    let in_log: Vec<_> = items.iter().map(|event| &event["data"]["transactionId"]).collect();
    assert_eq!(in_log, own.iter().collect::<Vec<_>>());
    // The account's event, then those of its records.
    let delivered = receiver.received(9, SOON).await;
    let mut delivered: Vec<_> = delivered.iter().map(|delivery| delivery.event()).collect();
    delivered.sort_by_key(|event| event["sequence"].as_i64());
    delivered.dedup();
    assert_eq!(&delivered[1..], &items[..]);
    for ids in statement_ids(&owner, &mine).await {
        assert_eq!(ids, own);
    }

    let find = format!("SELECT id FROM reporting.transactions WHERE {PUBLIC_ID} = $1");
    let ledger = stack.ledger().await;
    for (number, id) in &all[..2] {
        let found = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(find.clone())).bind(id);
        assert_eq!(found.fetch_all(&ledger).await.unwrap(), [*number]);
    }
}

fn id(record: &Response) -> String {
    record.text("transactionId").to_owned()
}
