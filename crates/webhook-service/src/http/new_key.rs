//! Makes a key for an endpoint.

use contract::WebhookEndpointId;
use runtime::http::problem::Problem;
use uuid::Uuid;

use super::problems::no_key;
use crate::{
    seal::{SealingKeys, SecretName},
    signature::{self, Algorithm, SigningKey, show_secret},
    store::{CurrentKey, SecretToStore},
};

/// A new key, sealed.
pub(super) struct NewKey {
    id: Uuid,
    sealed: Vec<u8>,
    /// For the receiver, once. A private key stays here.
    pub(super) secret: Option<String>,
    pub(super) shown: CurrentKey,
}

impl NewKey {
    /// # Errors
    /// `internal`
    pub(super) fn generate(
        sealing: &SealingKeys,
        endpoint: WebhookEndpointId,
        algorithm: Algorithm,
    ) -> Result<Self, Problem> {
        let (id, endpoint) = (Uuid::now_v7(), endpoint.as_uuid());
        let bytes = signature::generate().map_err(no_key)?;
        let key = SigningKey::new(algorithm, &bytes).map_err(no_key)?;
        let sealed = sealing.seal(SecretName { endpoint, secret: id }, &bytes).map_err(no_key)?;
        let secret = (algorithm == Algorithm::Hmac).then(|| show_secret(&bytes));
        let public_key = key.public_key().map(<[u8]>::to_vec);
        let shown = CurrentKey { endpoint_id: endpoint, algorithm: algorithm.code(), public_key };
        Ok(Self { id, sealed, secret, shown })
    }

    pub(super) fn to_store(&self) -> SecretToStore<'_> {
        SecretToStore {
            id: self.id,
            algorithm: self.shown.algorithm,
            sealed: &self.sealed,
            public_key: self.shown.public_key.as_deref(),
        }
    }
}
