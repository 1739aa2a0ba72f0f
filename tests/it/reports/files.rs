//! The files of a report: downloads and ranges.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::{Client, Response, Stack, eventually};
use time::OffsetDateTime;

use super::{
    FORMATS,
    setup::{Setup, limit},
    statement, used_account,
};

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
        // The period begins at midnight and ends now.
        let today = OffsetDateTime::now_utc().date();
        let expected = format!("attachment; filename=\"statement-{account}-{today}_{today}T");
        assert!(name.starts_with(&expected), "{name}");
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
async fn an_expired_file_is_deleted_and_its_signature_stays() {
    let setup = Setup::start("report-expiry", 1, 0, &["PASSBOOK_REPORT_CLEANUP_EVERY=1s"]).await;
    let (expired, kept) = (setup.ask().await, setup.ask().await);
    let mut files = Vec::new();
    for report in [&expired, &kept] {
        let ended = setup.ended(report).await;
        assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
        files.push(setup.csv(report).await);
    }
    sqlx::query(
        "UPDATE report_artifacts SET expires_at = clock_timestamp() WHERE report_id::text = $1",
    )
    .bind(&expired)
    .execute(&setup.reports)
    .await
    .unwrap();
    let path = format!("/v1/reports/{expired}/artifacts/csv");
    let gone = setup.client.get(&path).await;
    assert_eq!((gone.status, gone.problem()), (410, "artifact-expired"));
    eventually("the file is deleted", limit(), || async {
        setup.files(&expired).is_empty().then_some(())
    })
    .await;
    eventually("the row is marked, so the file is not deleted again", limit(), || async {
        let deleted = "report_artifacts WHERE deleted_at IS NOT NULL";
        (setup.count(deleted).await == 1).then_some(())
    })
    .await;
    // A client with a copy can still check it.
    let signature = setup.client.get(&format!("{path}.sig")).await;
    let digest = hex(&Sha256::digest(&files[0]));
    assert_eq!((signature.status, signature.text("sha256")), (200, digest.as_str()));
    // The report and the file of another one stay.
    assert_eq!(setup.ended(&expired).await.text("state"), "SUCCEEDED");
    assert_eq!(setup.csv(&kept).await, files[1]);
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
