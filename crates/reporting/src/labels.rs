//! The labels of records, from the account-service's database.
//!
//! They need no snapshot: a label never changes, and a record is committed before the ledger
//! decides it. A standby may not have replayed a record yet. Then the read fails, so that a later
//! statement of the same period has the same bytes. A record that the primary lacks was lost with
//! a restored database: it has no labels any more.
//!
//! As in `accounts`, the statement is checked when it runs, by a test.

use std::{collections::HashMap, time::Duration};

use contract::RecordId;
use ledger_reader::READ_LIMIT;
use sqlx::{FromRow, types::Uuid};
use tokio::time::timeout;

use crate::Accounts;

/// What a client calls a movement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// The client's own name for the movement.
    pub reference: Option<String>,
    /// The client's note.
    pub description: Option<String>,
}

/// Why labels could not be read. A later attempt can succeed.
#[derive(Debug, thiserror::Error)]
pub enum LabelsError {
    /// The standby is behind.
    #[error("the standby of the account database does not have record {0} yet")]
    NotReplayed(RecordId),
    /// The database did not answer in time: its host may have vanished.
    #[error("no answer from the account database within {0:?}")]
    NoAnswer(Duration),
    /// The database's error.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

#[derive(FromRow)]
struct LabelRow {
    id: Uuid,
    is_missing: bool,
    reference: Option<String>,
    description: Option<String>,
}

impl Accounts {
    /// The labels of those of these records that have any.
    ///
    /// # Errors
    /// [`LabelsError`]
    pub async fn labels(
        &self,
        records: &[RecordId],
    ) -> Result<HashMap<RecordId, Labels>, LabelsError> {
        let ids: Vec<Uuid> = records.iter().map(|id| id.as_uuid()).collect();
        let rows = sqlx::query_as::<_, LabelRow>(
            "SELECT wanted.id, labels.record_id IS NULL AS is_missing, reference, description
             FROM unnest($1::uuid[]) AS wanted (id)
                 LEFT JOIN reporting.record_labels AS labels ON labels.record_id = wanted.id
             WHERE reference IS NOT NULL OR description IS NOT NULL
                 OR (labels.record_id IS NULL AND pg_is_in_recovery())",
        );
        let rows = timeout(READ_LIMIT, rows.bind(ids).fetch_all(self.pool()));
        let rows = rows.await.map_err(|_| LabelsError::NoAnswer(READ_LIMIT))??;
        let mut labels = HashMap::with_capacity(rows.len());
        for LabelRow { id, is_missing, reference, description } in rows {
            let id = RecordId::from_uuid(id);
            if is_missing {
                return Err(LabelsError::NotReplayed(id));
            }
            labels.insert(id, Labels { reference, description });
        }
        Ok(labels)
    }
}
