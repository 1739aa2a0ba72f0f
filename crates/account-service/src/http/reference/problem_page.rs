//! The pages of the types of problems, from the table in the document.

use std::collections::BTreeMap;

use runtime::http::asset::Asset;
use serde::Deserialize;

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "x-problem-types")]
    types: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    slug: String,
    status: u16,
    title: String,
    meaning: String,
    remedy: String,
}

/// The page of each type, by its slug.
pub(super) fn all(document: &str) -> BTreeMap<String, Asset> {
    let types = serde_json::from_str::<Document>(document).map_or_else(
        |error| {
            tracing::error!(%error, "the OpenAPI document has no types of problems");
            Vec::new()
        },
        |document| document.types,
    );
    types.into_iter().map(|row| (row.slug.clone(), page(&row))).collect()
}

fn page(row: &Row) -> Asset {
    let Row { slug, status, .. } = row;
    let (title, meaning, remedy) = (html(&row.title), html(&row.meaning), html(&row.remedy));
    let text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{slug} · Passbook</title>\n<link rel=\"stylesheet\" href=\"/docs/style.css\">\n\
         <main>\n<h1>{title}</h1>\n\
         <p><code>/problems/{slug}</code>, with the status {status}</p>\n\
         <h2>When it occurs</h2>\n<p>{meaning}</p>\n\
         <h2>What to do</h2>\n<p>{remedy}</p>\n\
         <p><a href=\"/docs#problems\">All types of problems</a></p>\n</main>\n"
    );
    Asset::new(text, "text/html; charset=utf-8")
}

/// The text as HTML, with code between backticks.
fn html(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let parts = escaped.split('`').enumerate();
    parts
        .map(|(number, part)| match number % 2 {
            0 => part.to_owned(),
            _ => format!("<code>{part}</code>"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_marked_and_the_rest_is_escaped() {
        assert_eq!(html("a `b<c>` & d"), "a <code>b&lt;c&gt;</code> &amp; d");
    }
}
