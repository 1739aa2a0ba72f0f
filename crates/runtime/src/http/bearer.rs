//! Authentication: bearer tokens (JWT, RFC 7519), signed with RS256, ES256 or EdDSA. A service
//! has the public keys only, so it can verify tokens but not issue them. The service that stores
//! API keys accepts those, too.

mod api_keys;
mod failures;
mod jwks;
mod keys;
mod signatures;
mod source;

pub use api_keys::{ApiKey, ApiKeyHash, ApiKeyStore, NewApiKey, RECHECK, key_caller};
pub use source::parse_jwks_url;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, Uri, header::AUTHORIZATION, request::Parts},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::{ApiKeyId, Scope, Scopes, UserId};
use jsonwebtoken::{Header, Validation, decode_header, errors::ErrorKind};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use self::{
    api_keys::{ApiKeys, PREFIX, is_key_caller},
    failures::Failures,
    jwks::{ALGORITHMS, Lookup, VerificationKey},
    keys::{Keys, LoadedKeys},
};
use super::{
    address::{AddressConfig, Peer, TrustedProxies},
    problem::{FORBIDDEN, Problem, UNAUTHENTICATED, UNAVAILABLE},
    rate_limit::RateLimits,
    refusal_log::Refusal,
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
        let refusal = Refusal::Forbidden(self.user_id.clone());
        Err(FORBIDDEN.because(detail).lacks(scope).refused(refusal))
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

#[derive(Clone)]
struct Inner {
    keys: Arc<Keys>,
    /// Without the algorithm, which each key has.
    validation: Validation,
    /// Only in the service that stores API keys.
    api_keys: Option<Arc<ApiKeys>>,
    proxies: TrustedProxies,
    /// The failures of each client, if they are limited.
    failures: Option<Arc<Failures>>,
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
        let keys = Arc::new(keys);
        let (api_keys, proxies, failures) = (None, TrustedProxies::default(), None);
        Self(Arc::new(Inner { keys, validation, api_keys, proxies, failures }))
    }

    /// The same verifier of tokens, which also accepts the API keys of this store.
    #[must_use]
    pub fn with_api_keys(self, store: Box<dyn ApiKeyStore>) -> Self {
        let api_keys = Some(Arc::new(ApiKeys::new(store)));
        Self(Arc::new(Inner { api_keys, ..Inner::clone(&self.0) }))
    }

    /// The same verifier, with a limit of the requests without a valid token.
    #[must_use]
    pub(super) fn with_limit(self, config: &AddressConfig) -> Self {
        let failures = Failures::new(config.failed_token_limit).map(Arc::new);
        let proxies = config.trusted_proxies.clone();
        Self(Arc::new(Inner { proxies, failures, ..Inner::clone(&self.0) }))
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
    /// that it ends with its token. It counts towards no limit.
    ///
    /// # Errors
    /// `unauthenticated`, or `unavailable`
    pub async fn caller_of(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        self.caller(bearer_token(headers), || Ok(())).await
    }

    /// The caller of a new request.
    async fn authenticate(&self, request: &Parts) -> Result<Caller, Problem> {
        let Inner { proxies, failures, .. } = &*self.0;
        let address = || -> Option<IpAddr> {
            let Peer(peer) = *request.extensions.get::<Peer>()?;
            Some(proxies.client(peer, &request.headers))
        };
        let limited = || failures.as_deref().zip(address());
        let may_try = || limited().map_or(Ok(()), |(failures, client)| failures.admit(client));
        let caller = self.caller(bearer_token(&request.headers), may_try).await;
        caller.map_err(|problem| {
            if !problem.is(UNAUTHENTICATED) {
                return problem;
            }
            if let Some((failures, client)) = limited() {
                failures.count(client);
            }
            problem.refused(Refusal::Unauthenticated(address()))
        })
    }

    /// The caller with this token. `may_try` is asked before anything that costs time is done for a
    /// token that was not verified before.
    async fn caller(
        &self,
        token: Option<&str>,
        may_try: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<Caller, Problem> {
        let Some(token) = token else {
            may_try()?;
            return Err(UNAUTHENTICATED.because("Send the header Authorization: Bearer <token>."));
        };
        if token.starts_with(PREFIX) {
            let Some(keys) = &self.0.api_keys else {
                may_try()?;
                let detail = "This path takes tokens of the issuer, and no API keys.";
                return Err(UNAUTHENTICATED.because(detail));
            };
            return keys.caller(token, may_try).await;
        }
        let keys = self.keys()?;
        if let Some(caller) = keys.cached(token, SystemTime::now()) {
            return Ok(caller);
        }
        may_try()?;
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

/// The token in `Authorization`.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The header of a token, unless it can't be of a valid one. jsonwebtoken ignores `crit`:
/// extensions that the verifier must understand (RFC 7515, section 4.1.11).
fn header(token: &str) -> Result<Header, Problem> {
    let header = decode_header(token).map_err(|_| UNAUTHENTICATED.because(NOT_A_TOKEN))?;
    if !has_utf8_claims(token) {
        return Err(UNAUTHENTICATED.because(NOT_A_TOKEN));
    }
    if has_crit(token) {
        let detail = "The token's header has crit. No extension is supported.";
        return Err(UNAUTHENTICATED.because(detail));
    }
    if !ALGORITHMS.contains(&header.alg) {
        let detail = "The token must be signed with RS256, ES256 or EdDSA (Ed25519).";
        return Err(UNAUTHENTICATED.because(detail));
    }
    Ok(header)
}

/// Whether the header has `crit`, with any value: jsonwebtoken takes null for none.
fn has_crit(token: &str) -> bool {
    let header = token.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let header = header.and_then(|json| serde_json::from_slice::<Map<String, Value>>(&json).ok());
    header.is_none_or(|header| header.contains_key("crit"))
}

/// Whether the claims are UTF-8 (RFC 7519, section 7.2). serde_json does not look at the text of a
/// claim that nobody reads.
fn has_utf8_claims(token: &str) -> bool {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    claims.is_some_and(|claims| str::from_utf8(&claims).is_ok())
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    TokenVerifier: FromRef<S>,
    RateLimits: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = TokenVerifier::from_ref(state).authenticate(parts).await?;
        Span::current().record("caller", caller.user_id.as_str());
        RateLimits::from_ref(state).admit(&caller, &parts.extensions)?;
        Ok(caller)
    }
}

#[cfg(test)]
mod tests;
