//! The request to create an API key: its scopes, user and expiry.

use contract::{Scope, Scopes, UserId};
use runtime::http::{
    bearer::Caller,
    problem::{INVALID_FIELD, Problem},
};
use serde::Deserialize;
use time::{Duration, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use crate::store::ApiKeyRequest;

/// Maximum characters of a name.
const LONGEST_NAME: usize = 100;
/// The validity of a key without `expiresAt`.
const VALIDITY: Duration = Duration::days(90);
/// Maximum validity.
const LONGEST_VALIDITY: Duration = Duration::days(366);

/// The key to create.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateApiKey {
    /// What the key is for. Without control characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What the key allows: `accounts:read`, `accounts:write`, `accounts:any`, `deposits:write`,
    /// `withdrawals:write`, `events:read`, `webhooks:write`, `audit:read`. The caller must have each
    /// of them.
    #[schema(min_items = 1)]
    scopes: Vec<String>,
    /// The user that the key acts as: the caller of its requests and the owner of its accounts. By
    /// default the key itself, as `key_` and its id. Another user than the caller needs the scope
    /// `accounts:any`. To replace a key, create the new one with the `userId` of the old one: its
    /// accounts and idempotency keys stay the same.
    #[schema(nullable = false)]
    user_id: Option<String>,
    /// From then on, the key is invalid: within 366 days. By default, in 90 days.
    #[schema(format = DateTime, nullable = false)]
    expires_at: Option<String>,
}

impl CreateApiKey {
    /// The request, if this caller may make it. Its expiry is checked by [`expiry`].
    ///
    /// # Errors
    /// `invalid-field` or `forbidden`
    pub(super) fn parse(self, caller: &Caller) -> Result<ApiKeyRequest, Problem> {
        let is_name = (1..=LONGEST_NAME).contains(&self.name.chars().count());
        if !is_name || self.name.trim().is_empty() || self.name.chars().any(char::is_control) {
            let detail =
                format!("name must be 1 to {LONGEST_NAME} characters, no control characters.");
            return Err(INVALID_FIELD.because(detail).at("name"));
        }
        let scopes = parse_scopes(caller, &self.scopes)?;
        let user_id = self.user_id.map(UserId::try_from).transpose();
        let user_id = user_id
            .map_err(|error| INVALID_FIELD.because(format!("userId {error}.")).at("userId"))?;
        if user_id.as_ref().is_some_and(|user| !caller.may_use(user.as_str())) {
            caller.require(Scope::AccountsAny)?;
        }
        let expires_at = self.expires_at.as_deref().map(|text| {
            let time = OffsetDateTime::parse(text, &Rfc3339).ok();
            time.and_then(|time| time.checked_to_offset(UtcOffset::UTC)).ok_or_else(expiry_invalid)
        });
        Ok(ApiKeyRequest { name: self.name, user_id, scopes, expires_at: expires_at.transpose()? })
    }
}

/// The scopes of a key: some that the caller has.
fn parse_scopes(caller: &Caller, names: &[String]) -> Result<Scopes, Problem> {
    let parse = |(index, name): (usize, &String)| {
        let scope = Scope::OF_API_KEYS.into_iter().find(|scope| scope.as_str() == name);
        let scope = scope.ok_or_else(|| {
            let known = Scope::OF_API_KEYS.map(Scope::as_str).join(", ");
            let detail = format!("scopes[{index}] must be one of {known}.");
            INVALID_FIELD.because(detail).at("scopes")
        })?;
        caller.require(scope).map(|()| scope)
    };
    let scopes: Scopes = names.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
    if scopes == Scopes::default() {
        return Err(INVALID_FIELD.because("scopes must have a scope.").at("scopes"));
    }
    Ok(scopes)
}

/// When a key expires.
///
/// # Errors
/// `invalid-field`
pub(super) fn expiry(requested: Option<OffsetDateTime>) -> Result<OffsetDateTime, Problem> {
    let now = OffsetDateTime::now_utc();
    let latest = now.checked_add(LONGEST_VALIDITY).unwrap_or(now);
    let expires = requested.or_else(|| now.checked_add(VALIDITY));
    let expires = expires.filter(|expires| *expires > now && *expires <= latest);
    expires.ok_or_else(expiry_invalid)
}

fn expiry_invalid() -> Problem {
    let days = LONGEST_VALIDITY.whole_days();
    let detail =
        format!("expiresAt must be a time (RFC 3339) to come, at most {days} days from now.");
    INVALID_FIELD.because(detail).at("expiresAt")
}
