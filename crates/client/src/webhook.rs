//! Verifies webhooks: signatures by the standard-webhooks specification 1.0.0.
//!
//! Signed is `{id}.{timestamp}.{body}`, so the body must be verified as it arrived, before it is
//! parsed. The specification's own Rust library was rejected: it knows no `v1a`.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderMap;
use ring::{
    hmac,
    signature::{ED25519, UnparsedPublicKey},
};
use time::OffsetDateTime;

use crate::Event;

const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";
/// As in the libraries of the specification.
const TOLERANCE: Duration = Duration::from_secs(300);
/// Bytes of a secret, by the specification.
const SECRET: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of an Ed25519 public key.
const PUBLIC_KEY: usize = 32;

/// A text is no secret, `whsec_…`, and no public key, `whpk_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook is verified by a secret, whsec_…, or a public key, whpk_…")]
pub struct InvalidKey;

/// A request is not from Passbook, or not from now. Answer 400 and handle nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Forged {
    /// The header is missing, repeated or malformed.
    #[error("the header {0} is missing, repeated or malformed")]
    Header(&'static str),
    /// The timestamp is too far from now: the request may be an old one, sent again by others.
    #[error("the timestamp is more than {0:?} from now")]
    Time(Duration),
    /// No signature is by one of the keys.
    #[error("no signature is by a known key")]
    Signature,
}

/// A webhook can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// It is not from Passbook, or not from now.
    #[error(transparent)]
    Forged(#[from] Forged),
    /// The signature is right, and the body is no event of a form that this client knows.
    #[error("the body is no known event: {0}")]
    Body(String),
}

enum Key {
    Secret(hmac::Key),
    Public([u8; PUBLIC_KEY]),
}

/// Verifies the webhooks of an endpoint. `Debug` does not show its keys.
pub struct Verifier {
    keys: Vec<Key>,
    tolerance: Duration,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, tolerance } = self;
        write!(f, "Verifier({} keys, {tolerance:?})", keys.len())
    }
}

impl Verifier {
    /// A verifier with the key of an endpoint: its `secret`, or its `publicKey` if it signs with
    /// `v1a`.
    ///
    /// # Errors
    /// [`InvalidKey`]
    pub fn new(key: &str) -> Result<Self, InvalidKey> {
        Self { keys: Vec::new(), tolerance: TOLERANCE }.or(key)
    }

    /// Accepts another key, too: during a rotation, the old and the new one.
    ///
    /// # Errors
    /// [`InvalidKey`]
    pub fn or(mut self, key: &str) -> Result<Self, InvalidKey> {
        let bytes = |text: &str| STANDARD.decode(text).map_err(|_| InvalidKey);
        let key = if let Some(secret) = key.strip_prefix("whsec_") {
            let secret = bytes(secret)?;
            if !SECRET.contains(&secret.len()) {
                return Err(InvalidKey);
            }
            Key::Secret(hmac::Key::new(hmac::HMAC_SHA256, &secret))
        } else {
            let key = bytes(key.strip_prefix("whpk_").ok_or(InvalidKey)?)?;
            Key::Public(key.try_into().map_err(|_| InvalidKey)?)
        };
        self.keys.push(key);
        Ok(self)
    }

    /// How far the timestamp may be from now. By default five minutes.
    #[must_use]
    pub fn tolerance(self, tolerance: Duration) -> Self {
        Self { tolerance, ..self }
    }

    /// The event of a request: its headers, and its body as it arrived. Deliveries repeat: handle
    /// the events of one id once.
    ///
    /// # Errors
    /// [`WebhookError`]
    pub fn event(&self, headers: &HeaderMap, body: &[u8]) -> Result<Event, WebhookError> {
        self.verify(headers, body, OffsetDateTime::now_utc())?;
        let event: Event =
            serde_json::from_slice(body).map_err(|error| WebhookError::Body(error.to_string()))?;
        if header(headers, ID)? != event.id {
            return Err(Forged::Header(ID).into());
        }
        Ok(event)
    }

    /// Verifies a request at this time.
    ///
    /// # Errors
    /// [`Forged`]
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<(), Forged> {
        let (id, timestamp) = (header(headers, ID)?, header(headers, TIMESTAMP)?);
        let signatures = header(headers, SIGNATURE)?;
        let sent: i64 = timestamp.parse().map_err(|_| Forged::Header(TIMESTAMP))?;
        if Duration::from_secs(now.unix_timestamp().abs_diff(sent)) > self.tolerance {
            return Err(Forged::Time(self.tolerance));
        }
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        let is_right = |signature: &str| self.is_right(signature, &signed).unwrap_or(false);
        signatures.split(' ').any(is_right).then_some(()).ok_or(Forged::Signature)
    }

    /// Whether a signature, such as `v1,…`, is by one of the keys. The comparison of an HMAC takes
    /// the same time for every signature. `None`: it is malformed.
    fn is_right(&self, signature: &str, signed: &[u8]) -> Option<bool> {
        let (version, signature) = signature.split_once(',')?;
        let signature = STANDARD.decode(signature).ok()?;
        Some(self.keys.iter().any(|key| match (key, version) {
            (Key::Secret(key), "v1") => hmac::verify(key, signed, &signature).is_ok(),
            (Key::Public(key), "v1a") => {
                UnparsedPublicKey::new(&ED25519, key).verify(signed, &signature).is_ok()
            }
            _ => false,
        }))
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Forged> {
    let mut values = headers.get_all(name).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Forged::Header(name));
    };
    value.to_str().map_err(|_| Forged::Header(name))
}

#[cfg(test)]
mod tests;
