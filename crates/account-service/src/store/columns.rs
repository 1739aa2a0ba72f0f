//! New records as the arrays of an insert.

use contract::ApiKeyId;
use runtime::telemetry::trace::Trace;
use rust_decimal::Decimal;
use sqlx::types::Uuid;

use super::{
    insert::Traced,
    labels::{LabelArrays, unless_all_null},
};
use crate::record::NewRecord;

/// New records as columns.
pub(super) struct Columns<'a> {
    pub(super) ids: Vec<Uuid>,
    pub(super) account_ids: Vec<Uuid>,
    pub(super) keys: Vec<&'a str>,
    pub(super) hashes: Vec<Vec<u8>>,
    pub(super) user_ids: Vec<&'a str>,
    pub(super) kinds: Vec<&'a str>,
    pub(super) amounts: Vec<Decimal>,
    pub(super) currencies: Vec<&'a str>,
    /// Empty if no trace is recorded, which is the usual and the cheapest case: the statement reads
    /// missing values as NULL.
    pub(super) traceparents: Vec<Option<String>>,
    pub(super) labels: LabelArrays<'a>,
    /// Empty if no request has an API key, for the same reason.
    pub(super) api_keys: Vec<Option<Uuid>>,
}

impl<'a> Columns<'a> {
    /// Sorted by account, key and caller, so that replicas that insert the same keys wait for
    /// each other instead of deadlocking.
    pub(super) fn new(new: impl Iterator<Item = Traced<'a>>) -> Self {
        let mut sorted: Vec<_> = new.collect();
        sorted.sort_by_key(|(record, _)| {
            (record.account_id, record.key.as_str(), record.user_id.as_str())
        });
        let (new, traces): (Vec<&NewRecord>, Vec<&Trace>) = sorted.into_iter().unzip();
        let traceparent = |trace: &&Trace| trace.is_recorded().then(|| trace.traceparent());
        let recorded = traces.iter().any(|trace| trace.is_recorded());
        Self {
            traceparents: traces.iter().filter(|_| recorded).map(traceparent).collect(),
            labels: LabelArrays::new(new.iter().map(|record| &record.labels)),
            api_keys: unless_all_null(
                new.iter().map(|record| record.api_key.map(ApiKeyId::as_uuid)),
            ),
            ids: new.iter().map(|record| record.id.as_uuid()).collect(),
            account_ids: new.iter().map(|record| record.account_id.as_uuid()).collect(),
            keys: new.iter().map(|record| record.key.as_str()).collect(),
            hashes: new.iter().map(|record| record.request_hash().to_vec()).collect(),
            user_ids: new.iter().map(|record| record.user_id.as_str()).collect(),
            kinds: new.iter().map(|record| record.kind.as_str()).collect(),
            amounts: new.iter().map(|record| record.amount.as_decimal()).collect(),
            currencies: new.iter().map(|record| record.currency.code()).collect(),
        }
    }
}
