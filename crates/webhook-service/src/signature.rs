//! Signatures by the standard-webhooks specification 1.0.0.
//!
//! Signed is `{id}.{timestamp}.{body}`. During a rotation, each valid secret signs: the receiver
//! accepts any of the signatures that it can verify.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair},
};

/// Bytes of a new secret, or of the seed of a key pair.
const BYTES: usize = 32;

/// How an endpoint's deliveries are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `v1`: HMAC-SHA256 with a shared secret.
    Hmac,
    /// `v1a`: Ed25519. The receiver needs the public key only.
    Ed25519,
}

impl Algorithm {
    pub const ALL: [Self; 2] = [Self::Hmac, Self::Ed25519];

    /// Its identifier in signatures and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hmac => "v1",
            Self::Ed25519 => "v1a",
        }
    }

    /// Its number in the database.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Hmac => 1,
            Self::Ed25519 => 2,
        }
    }

    /// The algorithm with this number.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.code() == code)
    }

    /// The algorithm with this identifier.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

/// A key is malformed, or the system gives no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signing key is not usable")]
pub struct KeyError;

/// Random bytes for a new [`SigningKey`].
///
/// # Errors
/// [`KeyError`]
pub fn generate() -> Result<[u8; BYTES], KeyError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError)?;
    Ok(bytes)
}

/// A secret as it is shown to the receiver, once.
#[must_use]
pub fn show_secret(bytes: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(bytes))
}

/// A public key as it is shown to the receiver.
#[must_use]
pub fn show_public_key(bytes: &[u8]) -> String {
    format!("whpk_{}", STANDARD.encode(bytes))
}

/// A key that signs. `Debug` does not show it.
pub enum SigningKey {
    Hmac(hmac::Key),
    Ed25519(Box<Ed25519KeyPair>),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// The key of these bytes: an HMAC key, or the seed of a key pair.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, KeyError> {
        match algorithm {
            Algorithm::Hmac => Ok(Self::Hmac(hmac::Key::new(hmac::HMAC_SHA256, bytes))),
            Algorithm::Ed25519 => {
                let pair = Ed25519KeyPair::from_seed_unchecked(bytes).map_err(|_| KeyError)?;
                Ok(Self::Ed25519(Box::new(pair)))
            }
        }
    }

    /// The public key of a key pair.
    #[must_use]
    pub fn public_key(&self) -> Option<&[u8]> {
        match self {
            Self::Hmac(_) => None,
            Self::Ed25519(pair) => Some(pair.public_key().as_ref()),
        }
    }

    fn sign(&self, content: &[u8]) -> String {
        match self {
            Self::Hmac(key) => {
                format!("v1,{}", STANDARD.encode(hmac::sign(key, content)))
            }
            Self::Ed25519(pair) => {
                format!("v1a,{}", STANDARD.encode(pair.sign(content)))
            }
        }
    }
}

/// The header `webhook-signature`: a signature of each key. `id` has no full stop; the ids of
/// events are base64 for URLs.
#[must_use]
pub fn signatures(keys: &[SigningKey], id: &str, timestamp: i64, body: &[u8]) -> String {
    let head = format!("{id}.{timestamp}.");
    let content = [head.as_bytes(), body].concat();
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(&content)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// From the tests of the specification's reference libraries.
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const V1: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const SEED: &str = "VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=";
    const V1A: &str = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";

    fn key(algorithm: Algorithm, base64: &str) -> SigningKey {
        SigningKey::new(algorithm, &STANDARD.decode(base64).unwrap()).unwrap()
    }

    #[test]
    fn signatures_are_those_of_the_reference_libraries() {
        let hmac = key(Algorithm::Hmac, SECRET);
        assert_eq!(signatures(&[hmac], ID, TIMESTAMP, BODY), V1);
        let ed25519 = key(Algorithm::Ed25519, SEED);
        assert_eq!(signatures(&[ed25519], ID, TIMESTAMP, BODY), V1A);
    }

    #[test]
    fn each_key_signs_and_the_public_key_verifies() {
        let (secret, seed) = (generate().unwrap(), generate().unwrap());
        assert_ne!(secret, seed);
        let keys = [
            key(Algorithm::Hmac, SECRET),
            SigningKey::new(Algorithm::Hmac, &secret).unwrap(),
            SigningKey::new(Algorithm::Ed25519, &seed).unwrap(),
        ];
        let header = signatures(&keys, ID, TIMESTAMP, BODY);
        let parts: Vec<_> = header.split(' ').collect();
        let [first, second, third] = parts[..] else { panic!("{header}") };
        assert_eq!(first, V1);
        assert!(second.starts_with("v1,") && second != first);
        let signature = STANDARD.decode(third.strip_prefix("v1a,").unwrap()).unwrap();
        let content = [format!("{ID}.{TIMESTAMP}.").as_bytes(), BODY].concat();
        let public = UnparsedPublicKey::new(&ED25519, keys[2].public_key().unwrap());
        public.verify(&content, &signature).unwrap();
    }

    #[test]
    fn keys_have_the_prefixes_of_the_specification() {
        assert_eq!(show_secret(&[0; 3]), "whsec_AAAA");
        assert_eq!(show_public_key(&[0; 3]), "whpk_AAAA");
        assert!(SigningKey::new(Algorithm::Ed25519, &[0; 31]).is_err());
        assert_eq!(format!("{:?}", key(Algorithm::Hmac, SECRET)), "SigningKey");
    }
}
