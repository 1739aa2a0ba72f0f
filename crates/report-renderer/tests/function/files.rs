//! Files in answers and in the storage.

use base64::{Engine, engine::general_purpose::STANDARD};
use report_document::{Document, Format, RenderedReference};
use reqwest::StatusCode;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    documents::{MadeEntries, activity},
    server::{REPORT, expected, inline, request, sha256, small, start},
};

#[tokio::test]
async fn the_answer_is_the_file_that_the_library_writes_and_can_be_asked_for_again() {
    let server = start(&["no-storage"]).await;
    let statement = small().statement("USD");
    let document = Document::Statement(&statement, &small());
    for format in [Format::Csv, Format::Xlsx, Format::Json, Format::Camt053] {
        for _ in 0..2 {
            let answer = server.post(&request(format, &inline(&document))).await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()["content-type"], format.media_type());
            let digest = answer.headers()["repr-digest"].to_str().unwrap().to_owned();
            let bytes = answer.bytes().await.unwrap();
            assert!(bytes == expected(format, &document), "{format}");
            assert_eq!(digest, format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(&bytes))));
        }
    }
    assert_eq!(server.scratch_files(), 0);
}

#[tokio::test]
async fn an_activity_report_is_rendered() {
    let server = start(&[]).await;
    let activity = activity();
    let mut request = request(Format::Html, &inline(&Document::Activity(&activity)));
    request["kind"] = json!("activity");
    let answer = server.post(&request).await;
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    let bytes = answer.bytes().await.unwrap();
    assert!(bytes == expected(Format::Html, &Document::Activity(&activity)));
}

#[tokio::test]
async fn a_document_in_the_storage_gives_the_same_file() {
    let server = start(&[]).await;
    let statement = small().statement("USD");
    let document = Document::Statement(&statement, &small());
    let answer = server.post(&request(Format::Csv, &server.store(&document))).await;
    let bytes = answer.bytes().await.unwrap();
    assert!(bytes == expected(Format::Csv, &document));
    assert_eq!(server.scratch_files(), 0);
}

#[tokio::test]
async fn a_large_file_is_stored_in_the_folder_of_its_attempt() {
    let server = start(&["--report-renderer-max-answer", "10000"]).await;
    let entries = MadeEntries { count: 500, exponent: 0, extra: 0 };
    let statement = entries.statement("KRW");
    let document = Document::Statement(&statement, &entries);
    let wanted = expected(Format::Camt053, &document);
    // An earlier release of the report-service sends no fence.
    for (fence, prefix) in [(None, ""), (Some("0a"), "0a-"), (Some("0a"), "0a-")] {
        let mut request = request(Format::Camt053, &server.store(&document));
        request["fence"] = json!(fence);
        let answer = server.post(&request).await;
        assert_eq!(answer.headers()["content-type"], "application/json");
        let reference: RenderedReference = answer.json().await.unwrap();
        assert!(reference.belongs_to(REPORT.parse().unwrap(), 1));
        assert_eq!(reference.href, format!("{REPORT}/1/{prefix}statement.xml"));
        let path = server.storage.path().join(&reference.href);
        assert_eq!(
            (sha256(&path), path.metadata().unwrap().len()),
            (reference.sha256, reference.size)
        );
        assert!(std::fs::read(&path).unwrap() == wanted);
    }
    assert_eq!(server.scratch_files(), 0);
}
