//! Who asks, and what they may do: bearer tokens (JWT, RFC 7519) signed with
//! Ed25519. The service holds the public key only: it can check a token, and
//! not make one.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use axum::{
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};
use contract::UserId;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
};
use quick_cache::sync::Cache;
use runtime::problem::Problem;
use serde::Deserialize;

use super::{
    Shared,
    problems::{FORBIDDEN, UNAUTHENTICATED},
};
use crate::store::Account;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Opens accounts and uses its own.
    Customer,
    /// Opens accounts and uses any.
    Teller,
    /// The same as a teller, here.
    Admin,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The token's subject.
    pub(super) user_id: UserId,
    role: Role,
}

#[derive(Deserialize)]
struct Claims {
    sub: UserId,
    role: String,
    exp: f64,
}

/// How far clocks may differ.
const LEEWAY: Duration = Duration::from_secs(30);
/// Tokens remembered at most.
const REMEMBERED: usize = 10_000;
/// A token that is longer is checked at every request: memory has its bound.
const LONGEST_REMEMBERED: usize = 2048;

/// Checks tokens. A signature takes longer to check than a deposit to write
/// down, so a token that was found good is remembered, whole, until it
/// expires.
#[derive(Clone)]
pub struct Auth(Arc<Tokens>);

struct Tokens {
    key: DecodingKey,
    validation: Validation,
    good: Cache<Box<str>, Good>,
}

/// Whom a good token stands for, and until when.
#[derive(Clone)]
struct Good {
    caller: Caller,
    until: SystemTime,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth")
    }
}

impl Auth {
    /// Checks tokens that this key signed, from this issuer for this audience.
    ///
    /// # Errors
    /// If the key is no Ed25519 public key in PEM.
    pub fn new(public_key: &str, issuer: &str, audience: &str) -> anyhow::Result<Self> {
        // Fails if it was installed before, by another service in this process: the same one.
        let _ = PROVIDER.install_default();
        let key = DecodingKey::from_ed_pem(public_key.as_bytes()).context(
            "PASSBOOK_JWT_PUBLIC_KEY is no Ed25519 public key in PEM (BEGIN PUBLIC KEY)",
        )?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY.as_secs();
        Ok(Self(Arc::new(Tokens { key, validation, good: Cache::new(REMEMBERED) })))
    }

    fn caller(&self, token: &str) -> Result<Caller, Problem> {
        if let Some(caller) = self.remembered(token, SystemTime::now()) {
            return Ok(caller);
        }
        let (caller, expires) = self.checked(token)?;
        let until = Duration::try_from_secs_f64(expires)
            .ok()
            .and_then(|expires| UNIX_EPOCH.checked_add(expires)?.checked_add(LEEWAY));
        if let Some(until) = until.filter(|_| token.len() <= LONGEST_REMEMBERED) {
            self.0.good.insert(token.into(), Good { caller: caller.clone(), until });
        }
        Ok(caller)
    }

    /// Whom a token stands for, if it was checked before and is still good.
    fn remembered(&self, token: &str, now: SystemTime) -> Option<Caller> {
        self.0.good.get(token).filter(|good| now <= good.until).map(|good| good.caller)
    }

    /// Whom a token stands for, and when it expires: seconds since 1970.
    fn checked(&self, token: &str) -> Result<(Caller, f64), Problem> {
        let Tokens { key, validation, .. } = &*self.0;
        let claims = jsonwebtoken::decode::<Claims>(token, key, validation)
            .map_err(|error| {
                UNAUTHENTICATED.because(match error.kind() {
                    ErrorKind::ExpiredSignature => "The token has expired.",
                    ErrorKind::ImmatureSignature => "The token is not valid yet.",
                    ErrorKind::InvalidSignature => "The token's signature is not the issuer's.",
                    ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => {
                        "The token is of another issuer, or for another audience."
                    }
                    ErrorKind::InvalidAlgorithm => "The token must be signed with EdDSA (Ed25519).",
                    _ => "The token is no JWT with the claims sub, role, iss, aud and exp.",
                })
            })?
            .claims;
        let role = match claims.role.as_str() {
            "customer" => Role::Customer,
            "teller" => Role::Teller,
            "admin" => Role::Admin,
            other => {
                let detail = format!("The role {other:?} is none of customer, teller, admin.");
                return Err(FORBIDDEN.because(detail));
            }
        };
        Ok((Caller { user_id: claims.sub, role }, claims.exp))
    }
}

impl Caller {
    /// Lets a caller through who may use this account.
    pub(super) fn may_use(&self, account: &Account) -> Result<(), Problem> {
        self.may_use_account_of(&account.owner)
    }

    /// Lets a caller through who may use this owner's accounts.
    pub(super) fn may_use_account_of(&self, owner: &UserId) -> Result<(), Problem> {
        if self.role == Role::Customer && self.user_id != *owner {
            return Err(FORBIDDEN.because("A customer may use their own accounts only."));
        }
        Ok(())
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let token = token.ok_or_else(|| {
            UNAUTHENTICATED.because("Send the header Authorization: Bearer <token>.")
        })?;
        api.auth.caller(token)
    }
}

/// Ed25519 by `ring`, which the TLS stack brings anyway; the crate's own
/// providers bring a second set of elliptic curves and an RSA that is not
/// needed.
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
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use ring::{
        rand::SystemRandom,
        signature::{Ed25519KeyPair, KeyPair},
    };

    use super::*;

    /// Checks tokens of a new issuer, and makes them.
    fn issuer() -> (Auth, impl Fn(SystemTime) -> String) {
        let pair = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pair.as_ref()).unwrap();
        // SubjectPublicKeyInfo of an Ed25519 key: RFC 8410 section 4.
        let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        der.extend_from_slice(pair.public_key().as_ref());
        let der = base64::engine::general_purpose::STANDARD.encode(der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
        let token = move |expires: SystemTime| {
            let expires = expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
            let claims =
                format!(r#"{{"sub":"ann","role":"customer","iss":"i","aud":"a","exp":{expires}}}"#);
            let text = [r#"{"alg":"EdDSA","typ":"JWT"}"#, &claims]
                .map(|part| URL_SAFE_NO_PAD.encode(part))
                .join(".");
            let signature = URL_SAFE_NO_PAD.encode(pair.sign(text.as_bytes()));
            format!("{text}.{signature}")
        };
        (Auth::new(&pem, "i", "a").unwrap(), token)
    }

    #[test]
    fn a_token_that_is_remembered_still_expires() {
        let (auth, token) = issuer();
        let token = token(SystemTime::now());
        assert!(auth.caller(&token).is_ok());
        assert!(auth.remembered(&token, SystemTime::now()).is_some());
        let expired = SystemTime::now() + LEEWAY + Duration::from_secs(1);
        assert!(auth.remembered(&token, expired).is_none());
    }

    #[test]
    fn only_the_very_token_that_was_checked_is_remembered() {
        let (auth, token) = issuer();
        let token = token(SystemTime::now() + LEEWAY);
        assert!(auth.caller(&token).is_ok());
        let (signed, _) = token.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([7; 64]));
        assert!(auth.caller(&forged).is_err());
        assert!(auth.remembered(&forged, SystemTime::now()).is_none());
    }
}
