//! The reference of the API of all services: `/v1/openapi.json`, the pages of the types of problems
//! and `/docs`. None needs a token.
//!
//! The document is committed, since this service does not have the code of the others. `make
//! check-openapi` fails if it is not current.

mod problem_page;

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{http::HeaderMap, response::Response};
use runtime::http::{
    asset::Asset,
    openapi::IfNoneMatchHeader,
    path_id::PathId,
    problem::{NO_SUCH_PATH, Problem},
};

const DOCUMENT: &str = include_str!("../../../../../docs/openapi.json");

static OPENAPI: LazyLock<Asset> = LazyLock::new(|| Asset::new(DOCUMENT, "application/json"));
static PAGE: LazyLock<Asset> = LazyLock::new(|| {
    let page = include_str!("../../../../../docs/reference.html");
    Asset::new(page, "text/html; charset=utf-8")
});
static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new(include_str!("style.css"), "text/css; charset=utf-8"));
static PROBLEMS: LazyLock<BTreeMap<String, Asset>> = LazyLock::new(|| problem_page::all(DOCUMENT));

/// Get this document
#[utoipa::path(get, path = "/v1/openapi.json", tag = "Reference", operation_id = "getOpenApi",
    security(()),
    params(IfNoneMatchHeader),
    responses(
        (status = OK, body = Object, description = "The OpenAPI document.",
            headers(("ETag" = String, description = "Changes with the document."))),
        (status = NOT_MODIFIED, description = "The client has the document."),
    ))]
pub(super) async fn openapi(headers: HeaderMap) -> Response {
    OPENAPI.response(&headers)
}

/// Read about a type of problem
///
/// A page for people. The `type` of a problem leads here, without its `/v1`, too.
#[utoipa::path(get, path = "/v1/problems/{slug}", tag = "Reference",
    operation_id = "getProblemType",
    security(()),
    params(
        ("slug" = String, Path, example = "invalid-field",
            description = "The last part of the `type`."),
        IfNoneMatchHeader,
    ),
    responses(
        (status = OK, body = String, content_type = "text/html", description = "The page.",
            headers(("ETag" = String, description = "Changes with the page."))),
        (status = NOT_MODIFIED, description = "The client has the page."),
        (status = BAD_REQUEST, description = "malformed-id"),
        (status = NOT_FOUND, description = "no-such-path"),
    ))]
pub(super) async fn problem(
    PathId(slug): PathId<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let page = PROBLEMS.get(&slug).ok_or_else(|| {
        NO_SUCH_PATH.because("There is no such type of problem. /docs lists all.")
    })?;
    Ok(page.response(&headers))
}

/// The document as a page: a page of one's own and no ready-made viewer, since those load their
/// programs from elsewhere or add megabytes to the service, and need a looser content security
/// policy.
pub(super) async fn page(headers: HeaderMap) -> Response {
    PAGE.response(&headers)
}

/// The style sheet of all pages.
pub(super) async fn style(headers: HeaderMap) -> Response {
    STYLE.response(&headers)
}
