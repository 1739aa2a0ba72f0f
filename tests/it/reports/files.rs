//! The files of a report: downloads, ranges, signatures, and the same bytes twice.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::{Client, Response, Stack};

use super::{statement, used_account};

const FORMATS: [&str; 5] = ["pdf", "csv", "xlsx", "json", "camt053"];

async fn get(client: &Client, path: &str, headers: &[(&str, &str)]) -> Response {
    client.send(Method::GET, path, headers, None).await.unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn each_file_is_the_one_that_was_stored() {
    let client = Client::teller(Stack::shared().await);
    let account = used_account(&client).await;
    let report = client.report(&statement(&account, &FORMATS), 30).await;
    assert_eq!((report.status, report.text("state")), (200, "SUCCEEDED"), "{report:?}");
    let artifacts = report.body["artifacts"].as_array().unwrap();
    assert_eq!(artifacts.len(), FORMATS.len());
    for artifact in artifacts {
        let href = artifact["href"].as_str().unwrap();
        let file = get(&client, href, &[]).await;
        assert_eq!(file.status, 200, "{file:?}");
        assert_eq!(json!(file.bytes.len()), artifact["size"]);
        let digest = hex(&Sha256::digest(&file.bytes));
        assert_eq!(artifact["sha256"], json!(digest));
        let etag = format!("\"{digest}\"");
        assert_eq!(file.header("etag"), Some(etag.as_str()));
        let name = file.header("content-disposition").unwrap();
        assert!(name.starts_with("attachment; filename=\"statement-"), "{name}");
        let same = get(&client, href, &[("if-none-match", &etag)]).await;
        assert_eq!((same.status, same.bytes.len()), (304, 0));
        let part = get(&client, href, &[("range", "bytes=3-9")]).await;
        assert_eq!((part.status, &part.bytes[..]), (206, &file.bytes[3..10]));
        let range = format!("bytes 3-9/{}", file.bytes.len());
        assert_eq!(part.header("content-range"), Some(range.as_str()));
        let outside = get(&client, href, &[("range", "bytes=99999999-")]).await;
        assert_eq!(outside.status, 416);
        let other = get(&client, href, &[("range", "bytes=3-9"), ("if-range", "\"x\"")]).await;
        assert_eq!((other.status, other.bytes.len()), (200, file.bytes.len()));
    }
    let path = format!("/v1/reports/{}/artifacts/html", report.text("reportId"));
    assert_eq!(get(&client, &path, &[]).await.problem(), "artifact-not-found");
}

#[tokio::test]
async fn the_figures_are_those_of_the_ledger() {
    let client = Client::teller(Stack::shared().await);
    let account = used_account(&client).await;
    let report = client.report(&statement(&account, &["json"]), 30).await;
    let path = format!("/v1/reports/{}/artifacts/json", report.text("reportId"));
    let file: Value = get(&client, &path, &[]).await.body;
    assert_eq!(file["opening"], json!({ "balance": "0.00", "accountSeq": 0 }));
    assert_eq!(file["closing"], json!({ "balance": "100.00", "accountSeq": 4 }));
    assert_eq!(file["credits"], json!({ "count": 3, "amount": "123.75" }));
    assert_eq!(file["debits"], json!({ "count": 1, "amount": "23.75" }));
    let balances = file["entries"].as_array().unwrap().iter().map(|entry| &entry["balanceAfter"]);
    assert_eq!(balances.collect::<Vec<_>>(), ["100.00", "120.50", "123.75", "100.00"]);
}

#[tokio::test]
async fn the_same_statement_has_the_same_bytes_and_signature() {
    let client = Client::teller(Stack::shared().await);
    let request = statement(&used_account(&client).await, &FORMATS);
    let reports = [client.report(&request, 30).await, client.report(&request, 30).await];
    assert_ne!(reports[0].text("reportId"), reports[1].text("reportId"));
    for format in FORMATS {
        let mut files = Vec::new();
        for report in &reports {
            let path = format!("/v1/reports/{}/artifacts/{format}", report.text("reportId"));
            let signature = get(&client, &format!("{path}.sig"), &[]).await;
            assert_eq!(signature.body["algorithm"], "Ed25519", "{signature:?}");
            files.push((get(&client, &path, &[]).await.bytes, signature.body));
        }
        assert_eq!(files[0], files[1], "{format}");
    }
    let key =
        Client::new(&Stack::shared().await.file().api, "").get("/v1/reports/signing-key").await;
    assert!(key.text("publicKey").starts_with("-----BEGIN PUBLIC KEY-----"), "{key:?}");
}
