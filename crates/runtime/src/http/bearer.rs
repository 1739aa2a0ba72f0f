//! Authentication: bearer tokens (JWT, RFC 7519), signed with RS256, ES256 or EdDSA. A service
//! has the public keys only, so it can verify tokens but not issue them. The service that stores
//! API keys accepts those, too.

mod api_keys;
mod jwks;
mod keys;
mod signatures;
mod source;

pub use api_keys::{ApiKey, ApiKeyHash, ApiKeyStore, NewApiKey, RECHECK, key_caller};
pub use source::parse_jwks_url;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, Uri, header::AUTHORIZATION, request::Parts},
};
use contract::{ApiKeyId, Scope, Scopes, UserId};
use jsonwebtoken::{Header, Validation, decode_header, errors::ErrorKind};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use self::{
    api_keys::{ApiKeys, PREFIX, is_key_caller},
    jwks::{ALGORITHMS, Lookup, VerificationKey},
    keys::{Keys, LoadedKeys},
};
use super::{
    problem::{FORBIDDEN, Problem, UNAUTHENTICATED, UNAVAILABLE},
    rate_limit::RateLimits,
};
use crate::health::Health;

/// The authenticated caller of a request. As an extractor it rejects a request
/// without a valid token or API key, and one that exceeds the caller's rate limit.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token's subject, or the user of the API key.
    pub user_id: UserId,
    /// The scopes of the token or API key.
    pub scopes: Scopes,
    /// The API key, unless the caller sent a token.
    pub api_key: Option<ApiKeyId>,
}

impl Caller {
    /// Checks that the caller has this scope.
    ///
    /// # Errors
    /// `forbidden`
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.contains(scope) {
            return Ok(());
        }
        let detail = format!("The token lacks the scope {scope}.");
        Err(FORBIDDEN.because(detail).lacks(scope))
    }

    /// Whether the caller may use what belongs to this owner.
    #[must_use]
    pub fn may_use(&self, owner: &str) -> bool {
        self.scopes.contains(Scope::AccountsAny) || self.user_id.as_str() == owner
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// RFC 8693, section 4.2. Without it, the token allows nothing.
    #[serde(default)]
    scope: String,
    exp: f64,
}

const NOT_A_TOKEN: &str = "The token must be a JWT with the claims sub, iss, aud, exp and scope.";

/// The last accepted `exp`: the end of the year 9999. A later one is a mistake or an attack.
const LATEST_EXPIRY: f64 = 253_402_300_799.0;

/// Tolerated clock skew.
const LEEWAY: Duration = Duration::from_secs(30);
/// Verifies tokens. Verifying a signature takes longer than storing a record, so
/// a valid token is cached, in full, until it expires or its key is replaced.
#[derive(Clone)]
pub struct TokenVerifier(Arc<Inner>);

struct Inner {
    keys: Arc<Keys>,
    /// Without the algorithm, which each key has.
    validation: Validation,
    /// Only in the service that stores API keys.
    api_keys: Option<ApiKeys>,
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenVerifier")
    }
}

impl TokenVerifier {
    /// Verifies tokens of the keys at a URL that [`parse_jwks_url`] accepts, of this issuer and
    /// audience. The keys are fetched every `refresh` by [`TokenVerifier::keep_keys`], for the
    /// first time when it starts.
    ///
    /// # Errors
    /// If the machine has no root certificates.
    pub fn at_url(
        url: Uri,
        refresh: Duration,
        issuer: &str,
        audience: &str,
    ) -> anyhow::Result<Self> {
        let keys = Keys::at_url(url, refresh).context("PASSBOOK_JWKS_URL")?;
        Ok(Self::new(keys, issuer, audience))
    }

    /// Verifies tokens of the keys in a file, of this issuer and audience.
    /// [`TokenVerifier::keep_keys`] reads the file again when it changes.
    ///
    /// # Errors
    /// If the file is not a key set with a usable key.
    pub fn in_file(path: PathBuf, issuer: &str, audience: &str) -> anyhow::Result<Self> {
        let keys = Keys::in_file(path).context("PASSBOOK_JWKS_FILE")?;
        Ok(Self::new(keys, issuer, audience))
    }

    fn new(keys: Keys, issuer: &str, audience: &str) -> Self {
        signatures::install();
        let mut validation = Validation::default();
        validation.algorithms.clear();
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY.as_secs();
        Self(Arc::new(Inner { keys: Arc::new(keys), validation, api_keys: None }))
    }

    /// The same verifier of tokens, which also accepts the API keys of this store.
    #[must_use]
    pub fn with_api_keys(self, store: Box<dyn ApiKeyStore>) -> Self {
        let (keys, validation) = (Arc::clone(&self.0.keys), self.0.validation.clone());
        Self(Arc::new(Inner { keys, validation, api_keys: Some(ApiKeys::new(store)) }))
    }

    /// Adds the conditions of the keys to the health of the process.
    pub fn expect_keys(&self, health: &Health) {
        self.0.keys.expect(health);
    }

    /// Keeps the keys current, until `stop`.
    pub async fn keep_keys(self, health: Health, stop: CancellationToken) {
        self.0.keys.keep_current(health, stop).await;
    }

    /// The caller of a request with these headers. A long response calls this again and again, so
    /// that it ends with its token. It counts towards no rate limit.
    ///
    /// # Errors
    /// `unauthenticated`, or `unavailable`
    pub async fn caller_of(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let token = token.ok_or_else(|| {
            UNAUTHENTICATED.because("Send the header Authorization: Bearer <token>.")
        })?;
        self.caller(token).await
    }

    async fn caller(&self, token: &str) -> Result<Caller, Problem> {
        if token.starts_with(PREFIX) {
            let Some(keys) = &self.0.api_keys else {
                let detail = "This path takes tokens of the issuer, and no API keys.";
                return Err(UNAUTHENTICATED.because(detail));
            };
            return keys.caller(token).await;
        }
        let keys = self.keys()?;
        if let Some(caller) = keys.cached(token, SystemTime::now()) {
            return Ok(caller);
        }
        let header = header(token)?;
        if let Lookup::Unknown = keys.set.find(&header) {
            self.0.keys.refetch().await;
            return self.verify(&*self.keys()?, &header, token);
        }
        self.verify(&keys, &header, token)
    }

    fn keys(&self) -> Result<Arc<LoadedKeys>, Problem> {
        self.0.keys.current().ok_or_else(|| {
            let detail = "The keys that verify tokens could not be loaded yet.";
            UNAVAILABLE.because(detail).retry_after(2)
        })
    }

    fn verify(&self, keys: &LoadedKeys, header: &Header, token: &str) -> Result<Caller, Problem> {
        let key = match keys.set.find(header) {
            Lookup::Found(key) => key,
            refused => {
                return Err(UNAUTHENTICATED.because(match refused {
                    Lookup::Ambiguous => {
                        "The token must name its key in kid: the issuer has several."
                    }
                    Lookup::OtherAlgorithm => {
                        "The token is not signed with the algorithm of its key."
                    }
                    _ => "The token's key (kid) is unknown.",
                }));
            }
        };
        let (caller, expires) = self.claims(key, token)?;
        let until = Duration::try_from_secs_f64(expires)
            .ok()
            .and_then(|expires| UNIX_EPOCH.checked_add(expires)?.checked_add(LEEWAY));
        if let Some(until) = until {
            keys.cache(token, caller.clone(), until);
        }
        Ok(caller)
    }

    /// The caller and the expiry in seconds since 1970.
    fn claims(&self, key: &VerificationKey, token: &str) -> Result<(Caller, f64), Problem> {
        let mut validation = self.0.validation.clone();
        validation.algorithms = vec![key.algorithm];
        let claims = jsonwebtoken::decode::<Claims>(token, &key.key, &validation)
            .map_err(|error| {
                UNAUTHENTICATED.because(match error.kind() {
                    ErrorKind::ExpiredSignature => "The token has expired.",
                    ErrorKind::ImmatureSignature => "The token is not valid yet.",
                    ErrorKind::InvalidSignature => "The token's signature is invalid.",
                    ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => {
                        "The token has the wrong issuer or audience."
                    }
                    _ => NOT_A_TOKEN,
                })
            })?
            .claims;
        if claims.exp > LATEST_EXPIRY {
            return Err(UNAUTHENTICATED.because("The token's exp is after the year 9999."));
        }
        let user_id = UserId::try_from(claims.sub)
            .map_err(|error| UNAUTHENTICATED.because(format!("The token's sub {error}.")))?;
        if is_key_caller(&user_id) {
            let detail = "The token's sub is the name of an API key (key_ and a UUID).";
            return Err(UNAUTHENTICATED.because(detail));
        }
        let scopes = Scopes::parse(&claims.scope);
        Ok((Caller { user_id, scopes, api_key: None }, claims.exp))
    }
}

/// The header of a token, unless it can't be of a valid one. jsonwebtoken ignores `crit`:
/// extensions that the verifier must understand (RFC 7515, section 4.1.11).
fn header(token: &str) -> Result<Header, Problem> {
    let header = decode_header(token).map_err(|_| UNAUTHENTICATED.because(NOT_A_TOKEN))?;
    if header.crit.is_some() {
        let detail = "The token's header has crit. No extension is supported.";
        return Err(UNAUTHENTICATED.because(detail));
    }
    if !ALGORITHMS.contains(&header.alg) {
        let detail = "The token must be signed with RS256, ES256 or EdDSA (Ed25519).";
        return Err(UNAUTHENTICATED.because(detail));
    }
    Ok(header)
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    TokenVerifier: FromRef<S>,
    RateLimits: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = TokenVerifier::from_ref(state).caller_of(&parts.headers).await?;
        Span::current().record("caller", caller.user_id.as_str());
        RateLimits::from_ref(state).admit(&caller, &parts.extensions)?;
        Ok(caller)
    }
}

#[cfg(test)]
mod tests;
