//! Authentication: bearer tokens (JWT, RFC 7519) signed with Ed25519. A service has
//! the public key only, so it can verify tokens but not issue them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use axum::{
    extract::{FromRef, FromRequestParts},
    http::{header::AUTHORIZATION, request::Parts},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::{Scope, Scopes, UserId};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
};
use quick_cache::sync::Cache;
use serde::Deserialize;
use tracing::Span;

use super::{
    problem::{FORBIDDEN, Problem, UNAUTHENTICATED},
    rate_limit::RateLimits,
};

/// The authenticated caller of a request. As an extractor it rejects a request
/// without a valid token, and one that exceeds the caller's rate limit.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token's subject.
    pub user_id: UserId,
    /// The token's scopes.
    pub scopes: Scopes,
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

/// Tolerated clock skew.
const LEEWAY: Duration = Duration::from_secs(30);
/// Maximum cached tokens.
const CACHE_SIZE: usize = 10_000;
/// Maximum length of a cached token in bytes. It bounds the size of the cache.
const LONGEST_CACHED: usize = 2048;

/// Verifies tokens. Verifying a signature takes longer than storing a record, so
/// a valid token is cached, in full, until it expires.
#[derive(Clone)]
pub struct TokenVerifier(Arc<Inner>);

struct Inner {
    key: DecodingKey,
    validation: Validation,
    valid: Cache<Box<str>, ValidToken>,
}

/// A token's caller and expiry.
#[derive(Clone)]
struct ValidToken {
    caller: Caller,
    until: SystemTime,
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenVerifier")
    }
}

impl TokenVerifier {
    /// Verifies tokens of this key, issuer and audience.
    ///
    /// # Errors
    /// If the key is not an Ed25519 public key in PEM.
    pub fn new(public_key: &str, issuer: &str, audience: &str) -> anyhow::Result<Self> {
        // Fails if it was installed before in this process. Only this one is ever installed.
        let _ = PROVIDER.install_default();
        let key = DecodingKey::from_ed_pem(public_key.as_bytes()).context(
            "PASSBOOK_JWT_PUBLIC_KEY must be an Ed25519 public key in PEM (BEGIN PUBLIC KEY)",
        )?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY.as_secs();
        Ok(Self(Arc::new(Inner { key, validation, valid: Cache::new(CACHE_SIZE) })))
    }

    fn caller(&self, token: &str) -> Result<Caller, Problem> {
        if let Some(caller) = self.cached(token, SystemTime::now()) {
            return Ok(caller);
        }
        let (caller, expires) = self.verify(token)?;
        let until = Duration::try_from_secs_f64(expires)
            .ok()
            .and_then(|expires| UNIX_EPOCH.checked_add(expires)?.checked_add(LEEWAY));
        if let Some(until) = until.filter(|_| token.len() <= LONGEST_CACHED) {
            self.0.valid.insert(token.into(), ValidToken { caller: caller.clone(), until });
        }
        Ok(caller)
    }

    /// The caller, if the token is cached and has not expired.
    fn cached(&self, token: &str, now: SystemTime) -> Option<Caller> {
        self.0.valid.get(token).filter(|token| now <= token.until).map(|token| token.caller)
    }

    /// The caller and the expiry in seconds since 1970.
    fn verify(&self, token: &str) -> Result<(Caller, f64), Problem> {
        let Inner { key, validation, .. } = &*self.0;
        let claims = jsonwebtoken::decode::<Claims>(token, key, validation)
            .map_err(|error| {
                UNAUTHENTICATED.because(match error.kind() {
                    ErrorKind::ExpiredSignature => "The token has expired.",
                    ErrorKind::ImmatureSignature => "The token is not valid yet.",
                    ErrorKind::InvalidSignature => "The token's signature is invalid.",
                    ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => {
                        "The token has the wrong issuer or audience."
                    }
                    ErrorKind::InvalidAlgorithm => "The token must be signed with EdDSA (Ed25519).",
                    _ => "The token must be a JWT with the claims sub, iss, aud, exp and scope.",
                })
            })?
            .claims;
        if has_critical_extension(token) {
            let detail = "The token's header has crit. No extension is supported.";
            return Err(UNAUTHENTICATED.because(detail));
        }
        let user_id = UserId::try_from(claims.sub)
            .map_err(|error| UNAUTHENTICATED.because(format!("The token's sub {error}.")))?;
        Ok((Caller { user_id, scopes: Scopes::parse(&claims.scope) }, claims.exp))
    }
}

/// Whether the header of a valid token has `crit`: extensions that the verifier must understand
/// (RFC 7515, section 4.1.11). jsonwebtoken ignores it.
fn has_critical_extension(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Header {
        crit: Option<serde::de::IgnoredAny>,
    }
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).ok();
    let header = header.and_then(|header| serde_json::from_slice::<Header>(&header).ok());
    header.is_none_or(|header| header.crit.is_some())
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    TokenVerifier: FromRef<S>,
    RateLimits: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let token = token.ok_or_else(|| {
            UNAUTHENTICATED.because("Send the header Authorization: Bearer <token>.")
        })?;
        let caller = TokenVerifier::from_ref(state).caller(token)?;
        Span::current().record("caller", caller.user_id.as_str());
        RateLimits::from_ref(state).admit(&caller, &parts.extensions)?;
        Ok(caller)
    }
}

/// Ed25519 from `ring`, which TLS needs anyway. The providers of jsonwebtoken would
/// add a second implementation of elliptic curves, and RSA, which is not needed.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: refuse_to_sign,
    verifier_factory: ed25519_verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

fn refuse_to_sign(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

fn ed25519_verifier(
    algorithm: &Algorithm,
    key: &DecodingKey,
) -> Result<Box<dyn JwtVerifier>, Error> {
    if *algorithm != Algorithm::EdDSA {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let key = key.try_get_as_bytes()?.to_vec();
    Ok(Box::new(Ed25519(ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key))))
}

struct Ed25519(ring::signature::UnparsedPublicKey<Vec<u8>>);

impl signature::Verifier<Vec<u8>> for Ed25519 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        self.0.verify(message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Ed25519 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{Ed25519KeyPair, KeyPair},
    };

    use super::*;

    const HEADER: &str = r#"{"alg":"EdDSA","typ":"JWT"}"#;

    /// A new issuer of tokens for ann, and their verifier.
    fn issuer() -> (TokenVerifier, impl Fn(SystemTime) -> String) {
        let (verifier, token) = signer();
        (verifier, move |expires| token(HEADER, "ann", expires))
    }

    /// A new signer of a header and a subject, and the verifier.
    fn signer() -> (TokenVerifier, impl Fn(&str, &str, SystemTime) -> String) {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
        // SubjectPublicKeyInfo of an Ed25519 key: RFC 8410 section 4.
        let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        der.extend_from_slice(pair.public_key().as_ref());
        let der = base64::engine::general_purpose::STANDARD.encode(der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
        let token = move |header: &str, sub: &str, expires: SystemTime| {
            let expires = expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
            let claims = format!(
                r#"{{"sub":"{sub}","scope":"accounts:read","iss":"i","aud":"a","exp":{expires}}}"#
            );
            let text = [header, &claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
            let signature = URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes()));
            format!("{text}.{signature}")
        };
        (TokenVerifier::new(&pem, "i", "a").unwrap(), token)
    }

    #[test]
    fn a_cached_token_still_expires() {
        let (verifier, token) = issuer();
        let token = token(SystemTime::now());
        assert!(verifier.caller(&token).is_ok());
        assert!(verifier.cached(&token, SystemTime::now()).is_some());
        let expired = SystemTime::now() + LEEWAY + Duration::from_secs(1);
        assert!(verifier.cached(&token, expired).is_none());
    }

    #[test]
    fn a_token_is_rejected_with_the_reason() {
        let (verifier, token) = signer();
        let expires = SystemTime::now() + LEEWAY;
        let crit = r#"{"alg":"EdDSA","typ":"JWT","crit":["b64"],"b64":false}"#;
        for (header, sub, reason) in [
            (crit, "ann", "crit"),
            (HEADER, "ann lee", "sub must be 1 to 255 visible ASCII"),
            (HEADER, "\u{c548}", "sub must be 1 to 255 visible ASCII"),
            (HEADER, "", "sub must be 1 to 255 visible ASCII"),
        ] {
            let problem = verifier.caller(&token(header, sub, expires)).unwrap_err();
            assert_eq!(problem.status(), 401);
            let problem = serde_json::to_string(&problem).unwrap();
            assert!(problem.contains(reason), "{problem}");
        }
    }

    #[test]
    fn only_a_verified_token_is_cached() {
        let (verifier, token) = issuer();
        let token = token(SystemTime::now() + LEEWAY);
        assert!(verifier.caller(&token).is_ok());
        let (signed, _) = token.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([7; 64]));
        assert!(verifier.caller(&forged).is_err());
        assert!(verifier.cached(&forged, SystemTime::now()).is_none());
    }
}
