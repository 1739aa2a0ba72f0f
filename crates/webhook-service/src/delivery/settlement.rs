//! Settles rounds, also if the answer to the commit is lost.

use contract::AuditEntryId;
use runtime::postgres::limited;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Deliveries, lease::repeat};
use crate::store::{self, ClaimedEndpoint, Round, Settled, StoreError};

impl Deliveries {
    /// Settles a round, and tells of an endpoint that it disables. `None` if the lease is lost.
    ///
    /// After an error that may pass, the round is settled again. If it was stored before, the answer
    /// is the same: each effect is told once.
    ///
    /// # Errors
    /// [`StoreError`]. The round may be settled nevertheless.
    pub(super) async fn settle(
        &self,
        endpoint: &ClaimedEndpoint,
        round: &Round,
        lease_end: Instant,
        stop: &CancellationToken,
    ) -> Result<Option<Settled>, StoreError> {
        let (entry, after) = (AuditEntryId::new(), self.limits.disable_after);
        let settle = || async {
            let ClaimedEndpoint { id, fence, .. } = endpoint;
            limited(store::settle(&self.pool, *id, *fence, round, after, entry)).await?
        };
        let settled = repeat(settle, lease_end, stop).await?;
        if let Some(Settled { enabled: false, disabled_because, .. }) = &settled {
            let because = disabled_because.clone().unwrap_or_default();
            tracing::info!(webhook_endpoint = %endpoint.id, because,
                "a webhook endpoint was disabled");
            metrics::counter!("passbook_webhook_endpoints_disabled_total", "because" => because)
                .increment(1);
        }
        Ok(settled)
    }
}
