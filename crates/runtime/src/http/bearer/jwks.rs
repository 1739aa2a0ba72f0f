//! The keys that verify tokens, from a JSON Web Key Set (RFC 7517).
//!
//! A key verifies one algorithm, whatever the header of a token says: a public key is never the
//! secret of an HMAC. Keys for other purposes and of unknown types are ignored, as section 5 of
//! the RFC says. A set with a private key is refused: whoever can read it can issue tokens.

use anyhow::{Context, ensure};
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, Header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Maximum size of a set in bytes.
pub(super) const LARGEST: u64 = 256 * 1024;
/// Maximum keys of a set, ignored ones included.
const MOST_KEYS: usize = 64;
/// The bytes of an RSA modulus: 2,048 to 8,192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The algorithms of tokens.
pub(super) const ALGORITHMS: [Algorithm; 3] =
    [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// A key and its one algorithm.
pub(super) struct VerificationKey {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// The usable keys of a document.
pub(super) struct KeySet(Vec<VerificationKey>);

/// The key of a token.
pub(super) enum Lookup<'a> {
    Found(&'a VerificationKey),
    /// No key has the token's `kid`.
    Unknown,
    /// The key is for another algorithm.
    OtherAlgorithm,
    /// The token has no `kid`, and several keys have its algorithm.
    Ambiguous,
}

impl KeySet {
    /// Reads a document.
    ///
    /// # Errors
    /// If it is not a key set, is too large, has no usable key or a private one, or if two keys of
    /// an algorithm have the same `kid`.
    pub(super) fn parse(document: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let Document { keys } = serde_json::from_slice(document)
            .context("the document is not a JSON Web Key Set (RFC 7517)")?;
        ensure!(keys.len() <= MOST_KEYS, "the key set has more than {MOST_KEYS} keys");
        ensure!(
            keys.iter().all(|key| key.get("d").is_none()),
            "the key set has a private key (d): publish public keys only, and replace this one"
        );
        let set: Vec<_> = keys.into_iter().filter_map(usable).collect();
        ensure!(!set.is_empty(), "the key set has no key for signatures by RS256, ES256 or EdDSA");
        for (index, key) in set.iter().enumerate() {
            let same =
                |other: &VerificationKey| other.id == key.id && other.algorithm == key.algorithm;
            let differs = key.id.is_none() || !set.iter().skip(index + 1).any(same);
            ensure!(differs, "two keys have the same kid");
        }
        Ok(Self(set))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The key of a token with this header.
    pub(super) fn find(&self, header: &Header) -> Lookup<'_> {
        let of_algorithm = |key: &&VerificationKey| key.algorithm == header.alg;
        if header.kid.is_none() {
            let mut keys = self.0.iter().filter(of_algorithm);
            return match (keys.next(), keys.next()) {
                (Some(key), None) => Lookup::Found(key),
                (Some(_), Some(_)) => Lookup::Ambiguous,
                (None, _) => Lookup::OtherAlgorithm,
            };
        }
        let mut named = self.0.iter().filter(|key| key.id == header.kid).peekable();
        if named.peek().is_none() {
            return Lookup::Unknown;
        }
        named.find(of_algorithm).map_or(Lookup::OtherAlgorithm, Lookup::Found)
    }
}

/// The key, unless it is malformed or not for the signatures of tokens.
fn usable(key: Value) -> Option<VerificationKey> {
    let jwk: Jwk = serde_json::from_value(key).ok()?;
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let verifies = common.key_operations.as_ref();
    let verifies = verifies.is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let named = common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let has_size = match (algorithm, key.kind()) {
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, .. }) => {
            RSA_BYTES.contains(&n.len())
        }
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => point.len() == 65,
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(key)) => key.len() == 32,
        _ => false,
    };
    let usable = signs && verifies && named && has_size;
    usable.then(|| VerificationKey { id: jwk.common.key_id, algorithm, key })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn set(keys: &Value) -> anyhow::Result<KeySet> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn keys_for_other_purposes_are_ignored() {
        let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": X, "kid": "a" });
        let with = |name: &str, value: Value| {
            let mut key = ed.clone();
            key[name] = value;
            key
        };
        for ignored in [
            with("use", json!("enc")),
            with("key_ops", json!(["sign"])),
            with("alg", json!("ES256")),
            with("alg", json!("HS256")),
            with("crv", json!("X25519")),
            with("x", json!("AAAA")),
            with("x", json!(5)),
            with("kty", json!("new")),
            json!({ "kty": "oct", "k": X, "kid": "a" }),
            json!({ "kty": "RSA", "n": X, "e": "AQAB", "kid": "a" }),
            json!({ "kty": "EC", "crv": "P-256", "x": X, "y": "AAAA", "kid": "a" }),
            json!({ "kty": "EC", "crv": "P-384", "x": X, "y": X, "kid": "a" }),
            json!(null),
        ] {
            assert!(set(&json!([ignored])).is_err(), "{ignored}");
            assert_eq!(set(&json!([ignored, ed])).unwrap().len(), 1, "{ignored}");
        }
        let all = with("use", json!("sig"));
        assert_eq!(set(&json!([all])).unwrap().len(), 1);
        assert_eq!(set(&json!([with("alg", json!("EdDSA"))])).unwrap().len(), 1);
    }

    #[test]
    fn a_dangerous_or_ambiguous_set_is_refused() {
        let ed = |id: &str| json!({ "kty": "OKP", "crv": "Ed25519", "x": X, "kid": id });
        let private = json!({ "kty": "OKP", "crv": "Ed25519", "x": X, "d": X });
        let many: Vec<_> = (0..65).map(|id| ed(&id.to_string())).collect();
        for (keys, reason) in [
            (json!([ed("a"), private]), "private key"),
            (json!([ed("a"), ed("a")]), "same kid"),
            (json!(many), "more than 64"),
            (json!([]), "no key"),
        ] {
            let error = set(&keys).err().unwrap();
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
        for document in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
            assert!(KeySet::parse(document.as_bytes()).is_err(), "{document}");
        }
    }

    #[test]
    fn a_key_is_found_by_its_id_and_algorithm() {
        let ed = |id: &str| json!({ "kty": "OKP", "crv": "Ed25519", "x": X, "kid": id });
        let (one, two) =
            (set(&json!([ed("a")])).unwrap(), set(&json!([ed("a"), ed("b")])).unwrap());
        let header = |algorithm, kid: Option<&str>| Header {
            kid: kid.map(str::to_owned),
            ..Header::new(algorithm)
        };
        let eddsa = |kid| header(Algorithm::EdDSA, kid);
        assert!(matches!(two.find(&eddsa(Some("b"))), Lookup::Found(_)));
        assert!(matches!(two.find(&eddsa(Some("c"))), Lookup::Unknown));
        assert!(matches!(two.find(&eddsa(None)), Lookup::Ambiguous));
        assert!(matches!(one.find(&eddsa(None)), Lookup::Found(_)));
        assert!(matches!(one.find(&header(Algorithm::HS256, Some("a"))), Lookup::OtherAlgorithm));
        assert!(matches!(one.find(&header(Algorithm::RS256, None)), Lookup::OtherAlgorithm));
    }
}
