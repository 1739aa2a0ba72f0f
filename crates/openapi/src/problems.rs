//! The types of problems: the tables of all services, and their responses in the document.

use anyhow::{Context, bail};
use runtime::http::{
    idempotency_key, page,
    problem::{self, ProblemType},
};
use serde_json::{Map, Value, json};

/// The types of all services, sorted by slug.
///
/// # Errors
/// If two services have different types with one slug.
pub(crate) fn all() -> anyhow::Result<Vec<ProblemType>> {
    let tables = [
        problem::TYPES,
        idempotency_key::TYPES,
        page::TYPES,
        account_service::http::PROBLEM_TYPES,
        report_service::http::PROBLEM_TYPES,
        webhook_service::http::PROBLEM_TYPES,
    ];
    let mut types = tables.concat();
    types.sort_by_key(|problem| problem.slug);
    types.dedup();
    if let Some([one, _]) = types.array_windows().find(|[one, other]| one.slug == other.slug) {
        bail!("two services have different problems {}", one.slug);
    }
    Ok(types)
}

/// The types with their texts, from which the pages are made.
pub(crate) fn table(types: &[ProblemType]) -> Value {
    let row = |problem: &ProblemType| {
        json!({
            "slug": problem.slug,
            "status": problem.status.as_u16(),
            "title": problem.title,
            "meaning": problem.meaning.trim(),
            "remedy": problem.remedy,
        })
    };
    types.iter().map(row).collect()
}

/// The type with this slug.
///
/// # Errors
/// If there is none.
pub(crate) fn find<'a>(types: &'a [ProblemType], slug: &str) -> anyhow::Result<&'a ProblemType> {
    let found = types.iter().find(|problem| problem.slug == slug);
    found.with_context(|| format!("there is no problem type {slug}"))
}

/// The name of the response in `components`, for a status with this problem only.
pub(crate) fn component(problem: &ProblemType) -> String {
    let capitalized = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    problem.slug.split('-').map(capitalized).collect()
}

/// The response with one of these problems, which all have the same status.
pub(crate) fn response(problems: &[&ProblemType]) -> Value {
    let mut response = json!({
        "description": description(problems),
        "content": { "application/problem+json": {
            "schema": { "$ref": "#/components/schemas/Problem" },
            "examples": problems
                .iter()
                .map(|problem| (problem.slug.to_owned(), example(problem)))
                .collect::<Map<_, _>>(),
        } },
        "x-problem-types": problems.iter().map(|problem| problem.slug).collect::<Value>(),
    });
    let header = match problems.first().map_or(0, |problem| problem.status.as_u16()) {
        401 => Some("WWW-Authenticate"),
        429 | 503 => Some("Retry-After"),
        _ => None,
    };
    if let (Some(name), Some(response)) = (header, response.as_object_mut()) {
        let reference = json!({ "$ref": format!("#/components/headers/{name}") });
        response.insert("headers".to_owned(), json!({ name: reference }));
    }
    response
}

fn description(problems: &[&ProblemType]) -> String {
    match problems {
        [problem] => problem.title.to_owned(),
        _ => {
            let line = |problem: &&ProblemType| format!("- `{}`: {}", problem.slug, problem.title);
            problems.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

fn example(problem: &ProblemType) -> Value {
    json!({ "value": {
        "type": format!("/problems/{}", problem.slug),
        "status": problem.status.as_u16(),
        "title": problem.title,
        "detail": problem.remedy,
    } })
}
