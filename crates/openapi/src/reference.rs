//! The reference as one HTML page without scripts, from the document.

mod html;
mod schema;

use serde_json::{Map, Value};

use html::{escape, inline, markdown};
use schema::{example, properties, type_of};

/// The page. It needs the style sheet of the account-service, and nothing else.
pub(crate) fn page(document: &Value) -> String {
    let info = &document["info"];
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title} API</title>\n\
         <link rel=\"stylesheet\" href=\"/docs/style.css\">\n<main>\n\
         <h1>{title} API {version}</h1>\n{description}\
         <p>For programs: <a href=\"/v1/openapi.json\">the OpenAPI document</a>.</p>\n",
        title = text(&info["title"]),
        version = text(&info["version"]),
        description = markdown(plain(&info["description"])),
    );
    let schemes = entries(at(document, "/components/securitySchemes"));
    page += "<h2>Authentication</h2>\n";
    for (_, scheme) in schemes {
        page += &markdown(plain(&scheme["description"]));
    }
    for tag in items(&document["tags"]) {
        let name = plain(&tag["name"]);
        page += &format!("<h2>{}</h2>\n{}", escape(name), markdown(plain(&tag["description"])));
        for (path, item) in entries(&document["paths"]).chain(entries(&document["webhooks"])) {
            for (method, operation) in entries(item) {
                if items(&operation["tags"]).any(|tag| tag == name) {
                    page += &render(document, method, path, operation);
                }
            }
        }
    }
    page += "<h2 id=\"schemas\">Schemas</h2>\n";
    for (name, schema) in entries(at(document, "/components/schemas")) {
        page += &format!(
            "<details id=\"schema-{name}\"><summary><code>{name}</code></summary>\n\
             {}{}{}</details>\n",
            markdown(plain(&schema["description"])),
            properties(schema),
            example(schema),
        );
    }
    page += "<h2 id=\"problems\">Problems</h2>\n<table>\n<tr><th>Type<th>Status<th>Title\n";
    for problem in items(&document["x-problem-types"]) {
        page += &format!(
            "<tr><td><a href=\"/v1/problems/{slug}\"><code>/problems/{slug}</code></a>\
             <td>{status}<td>{title}\n",
            slug = text(&problem["slug"]),
            status = problem["status"],
            title = inline(plain(&problem["title"])),
        );
    }
    page + "</table>\n</main>\n"
}

/// One operation.
fn render(document: &Value, method: &str, path: &str, operation: &Value) -> String {
    let mut part = format!(
        "<details id=\"{id}\"><summary><b>{method}</b> <code>{path}</code> {summary}</summary>\n\
         {description}",
        id = text(&operation["operationId"]),
        method = method.to_uppercase(),
        path = escape(path),
        summary = text(&operation["summary"]),
        description = markdown(plain(&operation["description"])),
    );
    // A webhook has a name instead.
    if path.starts_with('/') {
        part += &security(document, operation);
    }
    if operation["parameters"].is_array() {
        part += "<table>\n<tr><th>Parameter<th>In<th>Type<th>Meaning\n";
        for parameter in items(&operation["parameters"]) {
            let required = if parameter["required"] == true { ", required" } else { "" };
            part += &format!(
                "<tr><td><code>{}</code><td>{}{required}<td>{}<td>{}\n",
                text(&parameter["name"]),
                text(&parameter["in"]),
                type_of(&parameter["schema"]),
                inline(plain(&parameter["description"])),
            );
        }
        part += "</table>\n";
    }
    let body = at(operation, "/requestBody/content/application~1json/schema");
    if !body.is_null() {
        part += &format!("<p>Body: {}</p>\n", type_of(body));
    }
    part += "<table>\n<tr><th>Status<th>Response\n";
    for (status, response) in entries(&operation["responses"]) {
        part += &format!("<tr><td>{status}<td>{}\n", render_response(resolve(document, response)));
    }
    part + "</table>\n</details>\n"
}

/// What the operation needs.
fn security(document: &Value, operation: &Value) -> String {
    let of_operation = &operation["security"];
    let all = if of_operation.is_null() { &document["security"] } else { of_operation };
    let requirements: Vec<_> = items(all).flat_map(entries).collect();
    if requirements.is_empty() {
        return "<p>Needs no token.</p>\n".to_owned();
    }
    let takes_keys = requirements.iter().any(|(scheme, _)| *scheme == "apiKey");
    let mut part = if takes_keys { "<p>A token or an API key" } else { "<p>A token" }.to_owned();
    let scopes = requirements.first().map_or(&Value::Null, |(_, scopes)| scopes);
    let scopes: Vec<_> =
        items(scopes).map(|scope| format!("<code>{}</code>", text(scope))).collect();
    if !scopes.is_empty() {
        part += &format!(" with the scope {}", scopes.join(", "));
    }
    part + ".</p>\n"
}

fn render_response(response: &Value) -> String {
    let slugs = items(&response["x-problem-types"]).map(plain);
    let slugs: Vec<_> = slugs
        .map(|slug| format!("<a href=\"/v1/problems/{slug}\"><code>{slug}</code></a>"))
        .collect();
    if !slugs.is_empty() {
        return slugs.join(", ");
    }
    let mut part = inline(plain(&response["description"]));
    let schemas =
        entries(&response["content"]).map(|(media_type, content)| match &content["schema"] {
            Value::Null => escape(media_type),
            schema if media_type == "application/json" => type_of(schema),
            schema => format!("{} as {}", escape(media_type), type_of(schema)),
        });
    let schemas: Vec<_> = schemas.collect();
    if !schemas.is_empty() {
        part += &format!(" {}.", schemas.join(", "));
    }
    let headers = entries(&response["headers"]).map(|(name, _)| format!("<code>{name}</code>"));
    let headers: Vec<_> = headers.collect();
    if !headers.is_empty() {
        part += &format!(" Headers: {}.", headers.join(", "));
    }
    part
}

/// The value behind a `$ref`.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

/// The value at this pointer, or null.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn text(value: &Value) -> String {
    escape(plain(value))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}
