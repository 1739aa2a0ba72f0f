//! Entries in the audit log about endpoints, each in the transaction that does what it tells. No
//! entry has a secret: of a URL, it has the origin only.

use account_service::store::AuditAction;
use audit_log::{Actor, Details};
use axum::http::Uri;
use sqlx::{PgExecutor, types::Uuid};

use super::{EndpointRow, StoreError};

/// What is told of a new or deleted endpoint.
pub(super) fn identity(owner: Option<&str>, url: &str) -> Details {
    Details::default().with("ownerId", owner).with("origin", origin(url).as_deref())
}

/// `None` if nothing has changed.
pub(super) fn change(old: &EndpointRow, new: &EndpointRow) -> Option<Details> {
    let fields = [
        ("url", old.url != new.url),
        ("description", old.description != new.description),
        ("types", old.types != new.types),
        ("state", old.enabled != new.enabled),
    ];
    let changed: Vec<_> =
        fields.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect();
    if changed.is_empty() {
        return None;
    }
    let origin = (old.url != new.url).then(|| origin(&new.url)).flatten();
    let state = if new.enabled { "ENABLED" } else { "DISABLED" };
    let details = Details::default()
        .with("changed", Some(&changed.join(" ")))
        .with("origin", origin.as_deref())
        .with("state", (old.enabled != new.enabled).then_some(state));
    Some(details)
}

/// Scheme, host and port. Path and query may contain a receiver's secret.
fn origin(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    let (scheme, host) = (url.scheme_str()?, url.host()?);
    let port = url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{host}{port}"))
}

/// Writes an entry.
pub(super) async fn add(
    database: impl PgExecutor<'_>,
    actor: Actor<'_>,
    action: AuditAction,
    endpoint: Uuid,
    details: Details,
) -> Result<(), StoreError> {
    let resource = format!("/v1/webhook-endpoints/{endpoint}");
    Ok(audit_log::add(database, actor, action.as_str(), &resource, details).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_only_the_origin_is_kept() {
        for (url, kept) in [
            ("https://example.com/hooks/T0/secret?key=1", "https://example.com"),
            ("http://user:password@[::1]:8080/", "http://[::1]:8080"),
        ] {
            assert_eq!(origin(url).as_deref(), Some(kept));
        }
    }
}
