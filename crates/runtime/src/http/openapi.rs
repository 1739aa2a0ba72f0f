//! The parts of the OpenAPI document that services share: parameters and schemas.
//!
//! A handler declares what is its own: summary, parameters, bodies, successes, and the types of
//! its own problems. Problems of the extractors and of the layers around every handler follow
//! from the declaration; the crate `openapi` adds them when it makes the document.

use std::fmt::Write;

use utoipa::{
    IntoParams,
    openapi::{
        Object, ObjectBuilder, RefOr, Required, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::Type,
    },
};

/// The required header `Idempotency-Key`.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyKeyHeader;

/// The header `Idempotency-Key` of a request that is safe without one.
#[derive(Debug, Clone, Copy)]
pub struct OptionalIdempotencyKeyHeader;

/// The header `Prefer` with `wait=N`.
#[derive(Debug, Clone, Copy)]
pub struct PreferHeader;

/// The header `If-None-Match`.
#[derive(Debug, Clone, Copy)]
pub struct IfNoneMatchHeader;

impl IntoParams for IfNoneMatchHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "The `ETag` of a copy. If it is current, the response is 304.";
        vec![header("If-None-Match", description, Required::False, string())]
    }
}

impl IntoParams for IdempotencyKeyHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![idempotency_key(Required::True)]
    }
}

impl IntoParams for OptionalIdempotencyKeyHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![idempotency_key(Required::False)]
    }
}

impl IntoParams for PreferHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let wait = string().examples(["wait=10"]);
        let description = "`wait=N` (RFC 7240): waits up to N seconds for the final state. The \
                           service may shorten the wait. Other preferences are ignored.";
        vec![header("Prefer", description, Required::False, wait)]
    }
}

fn idempotency_key(required: Required) -> Parameter {
    // A bare key without a comma, or a quoted string.
    let key = string()
        .min_length(Some(1))
        .max_length(Some(255))
        .pattern(Some(r#"^([!#-+\--~][!-+\--~]*|"([!#-\[\]-~]|\\["\\])+")$"#))
        .examples(["monday-1"]);
    let description = "The client's key for this request, the same in every retry: 1 to 255 \
                       visible ASCII characters, bare or as a quoted string. A key with a comma \
                       must be quoted.";
    header("Idempotency-Key", description, required, key)
}

fn header(name: &str, text: &str, required: Required, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(required)
        .description(Some(text))
        .schema(Some(schema))
        .build()
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// The schema of a string of this form.
#[must_use]
pub fn text(description: &str, pattern: &str, example: &str) -> RefOr<Schema> {
    let schema = string().pattern(Some(pattern)).examples([example]);
    described(schema, description).into()
}

/// The schema of a string that is one of these names. The description gets the meanings.
#[must_use]
pub fn names<const N: usize>(description: &str, names: [(&str, &str); N]) -> RefOr<Schema> {
    let mut description = description.to_owned();
    for (name, meaning) in names.iter().filter(|(_, meaning)| !meaning.is_empty()) {
        let _ = write!(description, "\n- `{name}`: {meaning}");
    }
    let schema = string().enum_values(Some(names.map(|(name, _)| name.to_owned())));
    described(schema, &description).into()
}

fn described(schema: ObjectBuilder, description: &str) -> Object {
    schema.description(Some(description)).build()
}
