//! Requests that are refused. The type says whether another try is in vain.

use report_document::{Document, Format, TEMPLATE};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::server::{REPORT, Server, TOKEN, inline, request, small, start};

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

/// A request, and the type and a part of the detail of its problem.
type Refused = (Value, &'static str, &'static str);

async fn assert_refused(server: &Server, status: StatusCode, requests: &[Refused]) {
    for (body, problem, detail) in requests {
        let (actual, problem_type, text) = server.refusal(body).await;
        assert_eq!((actual, problem_type.as_str()), (status, *problem), "{text}");
        assert!(text.contains(*detail), "{detail}: {text}");
    }
    assert_eq!(server.scratch_files(), 0);
}

#[tokio::test]
async fn a_document_that_no_try_can_render_is_the_only_one_not_renderable() {
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
    let too_long = changed("/credits/count", json!(2_000_000));
    let refused = [
        (too_long, "not-renderable", "2000001 rows are too many"),
        (changed("/credits/count", json!(3)), "invalid-document", "has 4 entries"),
        (changed("/entries/4/balanceAfter", json!("1.00")), "invalid-document", "balance 1.00"),
        (changed("/entries", json!({})), "invalid-document", "expected a sequence"),
        (changed("/opening", json!(7)), "invalid-document", "Position"),
        (with("format", json!("html")), "invalid-field", "can't be made as html"),
        (with("format", json!("docx")), "invalid-field", "docx"),
        (with("kind", json!("activity")), "invalid-field", "can't be made as xlsx"),
        (with("reportId", json!("../../etc")), "invalid-field", "UUID"),
        (with("document", Value::Null), "invalid-field", "either document"),
        (with("documentHref", json!("x")), "invalid-field", "either document"),
    ];
    assert_refused(&server, StatusCode::UNPROCESSABLE_ENTITY, &refused).await;
}

/// An earlier report-service takes 422 as permanent: its reports would end FAILED during an
/// upgrade.
#[tokio::test]
async fn another_layout_or_no_storage_is_a_fault_of_the_deployment() {
    let server = start(&["no-storage"]).await;
    let statement = small().statement("USD");
    let good = inline(&Document::Statement(&statement, &small()));
    let mut other_document = good.clone();
    other_document["document"]["template"] = json!(TEMPLATE + 1);
    let of_layout = |document: &Value| {
        let mut request = request(Format::Xlsx, document);
        request["template"] = json!(TEMPLATE - 1);
        request
    };
    let href = json!(format!("{REPORT}/1/document.ndjson"));
    let reference = json!({"documentHref": href, "documentSha256": "00", "documentSize": 1});
    let refused = [
        (request(Format::Xlsx, &other_document), "deployment-mismatch", "layout 2 only"),
        (of_layout(&good), "deployment-mismatch", "layout 2 only"),
        // The fields of another layout need not be these.
        (of_layout(&json!({ "document": {} })), "deployment-mismatch", "layout 2 only"),
        (request(Format::Csv, &reference), "deployment-mismatch", "no storage"),
    ];
    assert_refused(&server, StatusCode::CONFLICT, &refused).await;
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
    let at = |path: &str| with("documentHref", json!(format!("{REPORT}/{path}")));
    let other = json!("00".repeat(32));
    let refused = [
        (with("documentSha256", other), "deployment-mismatch", "another size or SHA-256"),
        (with("documentSize", json!(1)), "deployment-mismatch", "another size or SHA-256"),
        (at("1/none"), "deployment-mismatch", "not in the storage"),
    ];
    assert_refused(&server, StatusCode::CONFLICT, &refused).await;
    let refused = [
        (at("2/document.ndjson"), "invalid-field", "either document"),
        (at("1/../1/x"), "invalid-field", "either document"),
    ];
    assert_refused(&server, StatusCode::UNPROCESSABLE_ENTITY, &refused).await;
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
