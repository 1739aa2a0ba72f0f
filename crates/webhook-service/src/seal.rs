//! Seals the secrets of endpoints for the database, with AES-256-GCM.
//!
//! Rights on the table alone would not do: dumps, base backups, replicas and auditors have its
//! content. The ids of the endpoint and of the secret are authenticated, so a sealed secret that
//! is copied to another row does not open.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use uuid::Uuid;

/// The first byte: the form of what follows.
const FORM: u8 = 1;
/// Bytes of a key's id.
const ID: usize = 4;

/// The keys of the settings.
pub struct SealingKeys(Vec<SealingKey>);

struct SealingKey {
    id: [u8; ID],
    key: LessSafeKey,
}

/// Which secret is sealed.
#[derive(Debug, Clone, Copy)]
pub struct SecretName {
    pub endpoint: Uuid,
    pub secret: Uuid,
}

/// A secret can't be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
    #[error("the secret was sealed with a key that PASSBOOK_WEBHOOK_SECRET_KEYS does not have")]
    UnknownKey,
    #[error("the sealed secret is damaged, or belongs to another row")]
    Damaged,
}

impl std::fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKeys")
    }
}

impl SealingKeys {
    /// Parses the setting: keys of 32 bytes in base64, with commas between them. The first one
    /// seals, each one opens.
    ///
    /// # Errors
    /// A sentence without the keys.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be keys of 32 bytes in base64, with commas between them";
        let key = |text: &str| {
            let bytes = STANDARD.decode(text.trim()).map_err(|_| FORM)?;
            let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| FORM)?;
            let hash = digest(&SHA256, &[b"webhook secret key", &bytes[..]].concat());
            let id = *hash.as_ref().first_chunk().ok_or(FORM)?;
            Ok(SealingKey { id, key: LessSafeKey::new(key) })
        };
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }

    /// Seals a secret with the first key.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn seal(&self, name: SecretName, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let SealingKey { id, key } = self.0.first().ok_or(SealError::UnknownKey)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::NoRandomNumbers)?;
        let mut text = secret.to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(authenticated(name)),
            &mut text,
        )
        .map_err(|_| SealError::Damaged)?;
        Ok([&[FORM][..], id, &nonce, &text].concat())
    }

    /// How everything begins that the first key seals.
    #[must_use]
    pub fn present(&self) -> Vec<u8> {
        let id = self.0.first().map(|key| key.id).unwrap_or_default();
        [&[FORM][..], &id].concat()
    }

    /// Opens a sealed secret.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn open(&self, name: SecretName, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let rest = sealed.strip_prefix(&[FORM]).ok_or(SealError::Damaged)?;
        let (id, rest) = rest.split_first_chunk::<ID>().ok_or(SealError::Damaged)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Damaged)?;
        let key = self.0.iter().find(|key| key.id == *id).ok_or(SealError::UnknownKey)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.key.open_in_place(nonce, Aad::from(authenticated(name)), &mut text);
        opened.map(|secret| secret.to_vec()).map_err(|_| SealError::Damaged)
    }
}

fn authenticated(name: SecretName) -> Vec<u8> {
    [&name.endpoint.as_bytes()[..], name.secret.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(endpoint: u128, secret: u128) -> SecretName {
        SecretName { endpoint: Uuid::from_u128(endpoint), secret: Uuid::from_u128(secret) }
    }

    fn keys(fill: &[u8]) -> SealingKeys {
        let keys: Vec<_> = fill.iter().map(|byte| STANDARD.encode([*byte; 32])).collect();
        SealingKeys::parse(&keys.join(",")).unwrap()
    }

    #[test]
    fn a_secret_opens_under_its_name_only() {
        let keys = keys(&[1]);
        let sealed = keys.seal(name(1, 2), b"secret").unwrap();
        assert_ne!(sealed, keys.seal(name(1, 2), b"secret").unwrap());
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(keys.open(name(1, 2), &sealed).unwrap(), b"secret");
        assert_eq!(keys.open(name(1, 3), &sealed), Err(SealError::Damaged));
        assert_eq!(keys.open(name(2, 2), &sealed), Err(SealError::Damaged));
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(keys.open(name(1, 2), &changed).is_err(), "{index}");
            assert!(keys.open(name(1, 2), &sealed[..index]).is_err(), "{index}");
        }
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_opens_until_it_is_removed() {
        let sealed = keys(&[1]).seal(name(1, 2), b"secret").unwrap();
        let both = keys(&[2, 1]);
        assert_eq!(both.open(name(1, 2), &sealed).unwrap(), b"secret");
        let new = both.seal(name(1, 2), b"secret").unwrap();
        assert_eq!(keys(&[2]).open(name(1, 2), &new).unwrap(), b"secret");
        assert!(new.starts_with(&both.present()) && !sealed.starts_with(&both.present()));
        assert_eq!(keys(&[2]).open(name(1, 2), &sealed), Err(SealError::UnknownKey));
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in ["", ",", "AAAA", "not base64", &format!("{},", STANDARD.encode([1; 32]))] {
            assert!(SealingKeys::parse(text).is_err(), "{text}");
        }
        assert_eq!(format!("{:?}", keys(&[1])), "SealingKeys");
    }
}
