//! Seals the stored secrets with the present key, after a change of the settings' keys.
//!
//! It waits first: during a roll-out, replicas with the earlier settings still deliver, and open
//! nothing that the new key has sealed.

use std::{sync::Arc, time::Duration};

use runtime::{
    postgres::{PgPool, limited},
    tasks::sleep_unless_stopped,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    seal::{SealError, SealingKeys, SecretName},
    store::{self, OldSeal, StoreError},
};

/// Looks for secrets with an old seal until `stop`, each time after this pause.
pub async fn run(
    pool: PgPool,
    sealing: Arc<SealingKeys>,
    pause: Duration,
    stop: CancellationToken,
) {
    while sleep_unless_stopped(pause, &stop).await {
        match run_once(&pool, &sealing).await {
            Ok((0, 0)) => {}
            Ok((sealed, 0)) => tracing::info!(sealed, "webhook secrets have the present key"),
            Ok((sealed, unopened)) => tracing::error!(
                sealed,
                unopened,
                "webhook secrets do not open, and sign nothing: set the key that sealed them, or \
                 rotate them; a rotated secret counts until it expires"
            ),
            Err(error) => tracing::warn!(%error, "sealing webhook secrets again failed"),
        }
    }
}

/// Seals each secret that is not sealed with the present key. Gives how many were sealed, and how
/// many do not open. A crash leaves each secret with one of its seals.
async fn run_once(pool: &PgPool, sealing: &SealingKeys) -> Result<(u64, u64), StoreError> {
    let (mut sealed, mut unopened) = (0, 0);
    let (present, mut after) = (sealing.present(), Uuid::nil());
    loop {
        let old = limited(store::find_old_seals(pool, &present, after)).await??;
        let Some(last) = old.last() else { return Ok((sealed, unopened)) };
        after = last.id;
        for secret in &old {
            match seal(sealing, secret) {
                Ok(new) if limited(store::replace_seal(pool, secret, &new)).await?? => sealed += 1,
                // It was rotated, deleted, or sealed by another replica; or another transaction
                // holds it until a later round.
                Ok(_) => {}
                Err(_) => unopened += 1,
            }
        }
    }
}

fn seal(sealing: &SealingKeys, old: &OldSeal) -> Result<Vec<u8>, SealError> {
    let name = SecretName { endpoint: old.endpoint_id, secret: old.id };
    sealing.seal(name, &sealing.open(name, &old.sealed)?)
}
