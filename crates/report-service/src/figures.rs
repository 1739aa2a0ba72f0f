//! Reads the figures of a report from the ledger.

use std::{ops::ControlFlow, path::Path, time::Duration};

use anyhow::{Context, anyhow};
use contract::AccountId;
use report_document::{EntryFile, EntryWriter, OwnedDocument};
use reporting::{Accounts, Ledger, Period, StatementError};

use crate::{
    report::{Claimed, Parameters},
    worker::{AttemptError, Control},
};

/// How long a report waits until the ledger is final at the end of its period.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads figures.
#[derive(Debug)]
pub struct Figures {
    /// The ledger.
    pub ledger: Ledger,
    /// The accounts.
    pub accounts: Accounts,
    /// The institution's name on documents.
    pub issuer: String,
}

impl Figures {
    /// Reads the figures of a report. Large parts go to files in `scratch`.
    pub(crate) async fn read(
        &self,
        claimed: &Claimed,
        control: &Control,
        scratch: &Path,
    ) -> Result<OwnedDocument, AttemptError> {
        control.step("read", None);
        match &claimed.report.parameters {
            Parameters::Statement { account_id, period } => {
                self.statement(*account_id, period, control, scratch).await
            }
            other => Err(AttemptError::Permanent(format!("{} is not built", other.kind()))),
        }
    }

    async fn statement(
        &self,
        account_id: AccountId,
        period: &report_document::Period,
        control: &Control,
        scratch: &Path,
    ) -> Result<OwnedDocument, AttemptError> {
        let period = Period::from_document(period)
            .map_err(|error| AttemptError::Permanent(format!("the period {error}")))?;
        let info = self.accounts.find(account_id).await.context("looking up the account")?;
        let info =
            info.ok_or_else(|| anyhow!("the account {account_id} is not in the database"))?;
        let file = EntryFile::new(scratch.join("entries.ndjson"));
        let writer = EntryWriter::create(file.path()).context("creating a temporary file")?;
        let progress = |progress: reporting::statement::Progress| {
            control.total(progress.total);
            if control.rows(progress.done) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let statement = reporting::statement(
            &self.ledger,
            &info,
            &period,
            &self.issuer,
            PATIENCE,
            writer,
            progress,
        );
        match statement.await {
            Ok(statement) => Ok(OwnedDocument::LargeStatement(statement, file)),
            Err(StatementError::Stopped) => Err(AttemptError::Ended),
            Err(error) if error.is_permanent() => Err(AttemptError::Permanent(error.to_string())),
            Err(error) => Err(anyhow!(error).context("reading the statement").into()),
        }
    }
}
