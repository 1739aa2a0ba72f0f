//! Requests that are refused: 422 if another try is in vain.

use report_document::{Document, Format, TEMPLATE};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::server::{REPORT, TOKEN, inline, request, small, start};

#[tokio::test]
async fn a_request_needs_the_token() {
    let server = start(&[]).await;
    let post = || server.http.post(&server.url).json(&json!({}));
    for request in [post(), post().bearer_auth("other"), post().basic_auth(TOKEN, Some(TOKEN))] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    }
    let livez = server.http.get(format!("{}livez", server.url)).send().await.unwrap();
    assert_eq!(livez.text().await.unwrap(), "alive\n");
    let get = server.http.get(&server.url).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_document_that_no_try_can_render_is_422() {
    let server = start(&["no-storage"]).await;
    let statement = small().statement("USD");
    let good = inline(&Document::Statement(&statement, &small()));
    let changed = |path: &str, value: Value| {
        let mut document = good.clone();
        *document["document"].pointer_mut(path).unwrap() = value;
        request(Format::Xlsx, &document)
    };
    let with = |field: &str, value: Value| {
        let mut request = request(Format::Xlsx, &good);
        request[field] = value;
        request
    };
    let href = json!(format!("{REPORT}/1/document.ndjson"));
    let reference = json!({"documentHref": href, "documentSha256": "00", "documentSize": 1});
    for (body, problem, detail) in [
        (
            changed("/credits/count", json!(2_000_000)),
            "not-renderable",
            "2000001 rows are too many",
        ),
        (changed("/credits/count", json!(3)), "invalid-document", "has 4 entries"),
        (changed("/entries/4/balanceAfter", json!("1.00")), "invalid-document", "balance 1.00"),
        (changed("/entries", json!({})), "invalid-document", "expected a sequence"),
        (changed("/opening", json!(7)), "invalid-document", "Position"),
        (changed("/template", json!(TEMPLATE + 1)), "invalid-field", "layout 2 only"),
        (with("template", json!(TEMPLATE - 1)), "invalid-field", "layout 2 only"),
        (with("format", json!("html")), "invalid-field", "can't be made as html"),
        (with("format", json!("docx")), "invalid-field", "docx"),
        (with("kind", json!("activity")), "invalid-field", "can't be made as xlsx"),
        (with("reportId", json!("../../etc")), "invalid-field", "UUID"),
        (with("document", Value::Null), "invalid-field", "either document"),
        (with("documentHref", json!("x")), "invalid-field", "either document"),
        (request(Format::Csv, &reference), "invalid-field", "no storage"),
    ] {
        let (status, actual, text) = server.refusal(&body).await;
        assert_eq!(
            (status, actual.as_str()),
            (StatusCode::UNPROCESSABLE_ENTITY, problem),
            "{text}"
        );
        assert!(text.contains(detail), "{detail}: {text}");
    }
    assert_eq!(server.scratch_files(), 0);
}

#[tokio::test]
async fn a_stored_document_must_be_the_one_of_the_request() {
    let server = start(&[]).await;
    let statement = small().statement("USD");
    let good = server.store(&Document::Statement(&statement, &small()));
    let with = |field: &str, value: Value| {
        let mut reference = good.clone();
        reference[field] = value;
        request(Format::Csv, &reference)
    };
    let other = json!("00".repeat(32));
    for (body, detail) in [
        (with("documentSha256", other), "another size or SHA-256"),
        (with("documentSize", json!(1)), "another size or SHA-256"),
        (with("documentHref", json!(format!("{REPORT}/1/none"))), "not in the storage"),
        (with("documentHref", json!(format!("{REPORT}/2/document.ndjson"))), "either document"),
        (with("documentHref", json!(format!("{REPORT}/1/../1/x"))), "either document"),
    ] {
        let (status, _, text) = server.refusal(&body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(text.contains(detail), "{detail}: {text}");
    }
    assert_eq!(server.scratch_files(), 0);
}

#[tokio::test]
async fn a_body_that_is_no_request_is_rejected() {
    let server = start(&[]).await;
    let post = |body: Vec<u8>| server.http.post(&server.url).bearer_auth(TOKEN).body(body);
    let json = |body: &[u8]| post(body.to_vec()).header("content-type", "application/json");
    for (request, status) in [
        (json(b"{"), StatusCode::BAD_REQUEST),
        (json(b"[]"), StatusCode::UNPROCESSABLE_ENTITY),
        (post(b"{}".to_vec()), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (json(&vec![b' '; 17 * 1024 * 1024]), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}
