//! JSON Schemas as HTML.

use serde_json::Value;

use super::{
    entries,
    html::{escape, inline},
    items, plain,
};

/// A table of the fields, or the type if there are none.
pub(super) fn properties(schema: &Value) -> String {
    let alternatives = ["oneOf", "anyOf", "allOf"].iter().flat_map(|key| items(&schema[*key]));
    let alternatives: String = alternatives.map(properties).collect();
    if !alternatives.is_empty() {
        return alternatives;
    }
    if !schema["properties"].is_object() {
        return format!("<p>{}</p>\n", type_of(schema));
    }
    let mut table = "<table>\n<tr><th>Field<th>Type<th>Meaning\n".to_owned();
    for (name, field) in entries(&schema["properties"]) {
        let required = items(&schema["required"]).any(|required| required == name);
        table += &format!(
            "<tr><td><code>{}</code>{}<td>{}<td>{}\n",
            escape(name),
            if required { "" } else { " (optional)" },
            type_of(field),
            inline(description(field)),
        );
    }
    table + "</table>\n"
}

/// The description of a field; that of its alternative, if it can be null.
fn description(field: &Value) -> &str {
    let nested = items(&field["oneOf"]).map(|one| plain(&one["description"]));
    std::iter::once(plain(&field["description"]))
        .chain(nested)
        .find(|description| !description.is_empty())
        .unwrap_or_default()
}

/// The type in words.
pub(super) fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        return format!("<a href=\"#schema-{name}\">{}</a>", escape(name));
    }
    let alternatives = ["oneOf", "anyOf"].iter().flat_map(|key| items(&schema[*key])).map(type_of);
    let alternatives: Vec<_> = alternatives.collect();
    if !alternatives.is_empty() {
        return alternatives.join(" or ");
    }
    let mut words = match &schema["type"] {
        Value::Array(types) => types.iter().map(plain).collect::<Vec<_>>().join(" or "),
        Value::String(name) => name.clone(),
        _ => "any".to_owned(),
    };
    if !schema["items"].is_null() {
        words += &format!(" of {}", type_of(&schema["items"]));
    }
    let names = items(&schema["enum"]).map(|name| format!("<code>{}</code>", escape(plain(name))));
    let names: Vec<_> = names.collect();
    if !names.is_empty() {
        return names.join(" ");
    }
    if let Some(format) = schema["format"].as_str().filter(|format| !format.starts_with("int")) {
        words += &format!(" ({})", escape(format));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        words += &format!(" <code>{}</code>", escape(pattern));
    }
    for (key, sign) in [("minimum", "≥"), ("maximum", "≤"), ("default", "default")] {
        if !schema[key].is_null() {
            words += &format!(" {sign} {}", schema[key]);
        }
    }
    words
}

/// The examples of a schema with fields.
pub(super) fn example(schema: &Value) -> String {
    let examples = items(&schema["examples"]).filter(|example| example.is_object());
    let examples = examples.filter_map(|example| serde_json::to_string_pretty(example).ok());
    examples.map(|json| format!("<pre><code>{}</code></pre>\n", escape(&json))).collect()
}
