//! The reference of the API: the OpenAPI document, its page, and a page for each type of problem.
//! None needs a token.

use reqwest::Method;
use serde_json::Value;
use tests::{Client, Response, Stack};

const DOCUMENT: &str = include_str!("../../docs/openapi.json");

async fn public(path: &str, headers: &[(&str, &str)]) -> Response {
    let stranger = Client::new(&Stack::shared().await.file().api, "");
    let headers = [&[("authorization", "")], headers].concat();
    stranger.send(Method::GET, path, &headers, None).await.unwrap()
}

/// Asserts that a page is cached, and works without anything from elsewhere.
async fn assert_page(path: &str, media_type: &str) -> String {
    let page = public(path, &[]).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some(media_type)), "{path}");
    assert_eq!(page.header("cache-control"), Some("public, max-age=300"), "{path}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{path}: {policy}");
    let etag = page.header("etag").unwrap();
    let known = [("if-none-match", &*format!("\"other\", W/{etag}"))];
    let same = public(path, &known).await;
    assert_eq!((same.status, same.bytes.len()), (304, 0), "{path}");
    assert_eq!(public(path, &[("if-none-match", "\"other\"")]).await.status, 200, "{path}");
    String::from_utf8(page.bytes).unwrap()
}

#[tokio::test]
async fn the_document_is_served_as_it_is_committed() {
    let served = assert_page("/v1/openapi.json", "application/json").await;
    assert!(served == DOCUMENT, "the service has another document: build it again");
}

#[tokio::test]
async fn the_page_has_every_operation_and_needs_no_script() {
    let page = assert_page("/docs", "text/html; charset=utf-8").await;
    assert_page("/docs/style.css", "text/css; charset=utf-8").await;
    for loads in ["<script", "src=", "href=\"http", "href=\"//", "@import", "url("] {
        assert!(!page.contains(loads), "it loads something: {loads}");
    }
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(page.contains(&format!("<details id=\"{id}\">")), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn each_type_of_problem_has_a_page_at_its_type() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let types = document["x-problem-types"].as_array().unwrap();
    assert!(types.len() > 20, "{}", types.len());
    for problem in types {
        let slug = problem["slug"].as_str().unwrap();
        for path in [format!("/problems/{slug}"), format!("/v1/problems/{slug}")] {
            let page = public(&path, &[]).await;
            assert_eq!(page.status, 200, "{path}");
            let text = String::from_utf8(page.bytes).unwrap();
            assert!(text.contains(&format!("with the status {}", problem["status"])), "{text}");
        }
    }
    let page = assert_page("/v1/problems/invalid-field", "text/html; charset=utf-8").await;
    assert!(page.contains("<h1>A field is invalid.</h1>"), "{page}");
}

#[tokio::test]
async fn an_unknown_type_of_problem_has_no_page() {
    let unknown = public("/v1/problems/nothing", &[]).await;
    assert_eq!((unknown.status, unknown.problem()), (404, "no-such-path"), "{unknown:?}");
    let malformed = public("/v1/problems/%ff", &[]).await;
    assert_eq!((malformed.status, malformed.problem()), (400, "malformed-id"), "{malformed:?}");
}

#[tokio::test]
async fn the_problem_of_a_response_leads_to_its_page() {
    let client = Client::teller(Stack::shared().await);
    let response = client.get("/v1/accounts/1").await;
    let page = public(response.text("type"), &[]).await;
    assert_eq!(page.status, 200, "{response:?}");
    let text = String::from_utf8(page.bytes).unwrap();
    assert!(text.contains("An id in the path is malformed."), "{text}");
}
