//! Who asks, and what they may do: bearer tokens (JWT, RFC 7519) signed with
//! Ed25519. The service holds the public key only: it can check a token, and
//! not make one.

use std::sync::Arc;

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
use runtime::problem::Problem;
use serde::Deserialize;

use super::{
    Api,
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
}

/// Checks tokens.
#[derive(Clone)]
pub struct Auth(Arc<(DecodingKey, Validation)>);

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
        validation.leeway = 30;
        Ok(Self(Arc::new((key, validation))))
    }

    fn caller(&self, token: &str) -> Result<Caller, Problem> {
        let (key, validation) = &*self.0;
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
        Ok(Caller { user_id: claims.sub, role })
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

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
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
