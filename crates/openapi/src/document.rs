//! The document: the parts of the services, completed.

use anyhow::{Context, bail};
use runtime::http::problem::ProblemView;
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema, openapi::OpenApi};

use crate::{complete::complete, problems, webhooks::webhooks};

const DESCRIPTION: &str = "Passbook takes deposits and withdrawals and applies each exactly once. \
    It makes statements and other reports.\n\n\
    Amounts are strings: a binary float is not exact. Times are RFC 3339. Clients must accept \
    fields, and problem types, that they do not know.\n\n\
    A request that moves money has an `Idempotency-Key`. After no response, or after 500, 502, 503 \
    or 504, send it again with the same key: however often it is repeated, it is applied once. 502 \
    and 504 come from a proxy, and may have no problem.\n\n\
    Errors are problems (RFC 9457). Their `type` never changes; its page says what to do. All \
    other text may change.";

/// The whole document, with sorted keys.
///
/// # Errors
/// If the parts contradict each other.
pub(crate) fn document() -> anyhow::Result<Value> {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    let parts = [
        account_service::http::openapi(),
        report_service::http::openapi(),
        webhook_service::http::openapi(),
    ];
    for part in parts {
        add(part, &mut paths, &mut schemas)?;
    }
    schemas.insert(ProblemView::name().into_owned(), serde_json::to_value(ProblemView::schema())?);
    let types = problems::all()?;
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Passbook",
            "description": DESCRIPTION,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "tags": [
            { "name": "Accounts", "description": "Accounts, each in one currency." },
            { "name": "Movements", "description": "Deposits, withdrawals and their records." },
            { "name": "Events", "description": "What happened to accounts and records, in order." },
            { "name": "Webhooks", "description": "Endpoints that receive the events, signed." },
            { "name": "API keys", "description": "The keys of machines. Tokens with the scope \
                                                  `admin` manage them." },
            { "name": "Audit log", "description": "Who changed access, acted for others, or asked for reports." },
            { "name": "Reports", "description": "Statements and other long reports." },
            { "name": "Reference", "description": "This document and the types of problems." },
        ],
        "paths": paths,
        "webhooks": webhooks(),
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "A JWT signed with RS256, ES256 or EdDSA (Ed25519), with the claims `sub`, `scope`, `iss`, \
                                `aud` and `exp`. `scope` has names with a blank between them: \
                                `accounts:read`, `accounts:write`, `deposits:write`, \
                                `withdrawals:write`, `reports:read`, `reports:write`, \
                                `events:read`, `webhooks:write`, `audit:read`, `admin`. Without \
                                `accounts:any`, a caller uses their own accounts only: others \
                                look as if they did not exist.",
            }, "apiKey": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "API key",
                "description": "An API key of a machine (`pbk_…`), sent like a token: \
                                `Authorization: Bearer pbk_…`. It has the scopes of its creation. \
                                Reports take tokens only.",
            } },
        },
        "x-problem-types": problems::table(&types),
    });
    complete(&mut document, &types)?;
    Ok(sorted(document))
}

/// Adds the paths and schemas of one service.
fn add(
    part: OpenApi,
    paths: &mut Map<String, Value>,
    schemas: &mut Map<String, Value>,
) -> anyhow::Result<()> {
    let mut part = serde_json::to_value(part)?;
    let mut of = |pointer| match part.pointer_mut(pointer).map(Value::take) {
        Some(Value::Object(map)) => Ok(map),
        _ => bail!("a service has no {pointer}"),
    };
    for (path, item) in of("/paths")? {
        if paths.insert(path.clone(), item).is_some() {
            bail!("two services have the path {path}");
        }
    }
    for (name, schema) in of("/components/schemas")? {
        let other = schemas.insert(name.clone(), schema.clone());
        if other.is_some_and(|other| other != schema) {
            bail!("two services have different schemas {name}");
        }
    }
    Ok(())
}

/// The same value with sorted keys, whatever the features of `serde_json` are.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// The object at this key, made if it is missing.
///
/// # Errors
/// If something else is there.
pub(crate) fn object<'a>(
    value: &'a mut Value,
    key: &str,
) -> anyhow::Result<&'a mut Map<String, Value>> {
    value
        .as_object_mut()
        .and_then(|map| map.entry(key).or_insert_with(|| json!({})).as_object_mut())
        .with_context(|| format!("{key} is no object"))
}
