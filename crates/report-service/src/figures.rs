//! Reads the figures of a report from the ledger.

use std::{
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use contract::AccountId;
use reconciliation::{Limits, Progress, Replicas, Schema, Sources};
use report_document::{EntryFile, EntryWriter, OwnedDocument};
use reporting::{
    Accounts, Ledger, Period, StatementError, StatementSources,
    activity::{ActivityConfig, ActivityError, ActivityReader},
    analysis::{LanguageModel, analyse},
};
use runtime::postgres::parse_url;

use crate::{
    report::{Claimed, Parameters},
    worker::{AttemptError, Control},
};

/// How long a report waits until the ledger is final at the end of its period.
const PATIENCE: Duration = Duration::from_secs(60);
/// The interval between two checkpoints. Each is some MiB.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);

/// Reads figures.
#[derive(Debug)]
pub struct Figures {
    /// The ledger.
    pub ledger: Ledger,
    /// The accounts.
    pub accounts: Accounts,
    /// Both databases, for a reconciliation.
    pub sources: Sources,
    /// How much of the machine an activity report takes.
    pub activity: ActivityConfig,
    /// Writes the analysis, if it is configured.
    pub model: Option<LanguageModel>,
    /// The institution's name on documents.
    pub issuer: String,
}

/// Both databases, as a reconciliation reads them.
///
/// # Errors
/// If a URL is malformed. The error does not show it, because it contains a password.
pub fn sources(accounts: &str, ledger: &str) -> anyhow::Result<Sources> {
    let options = |url| parse_url(url).map_err(|_| anyhow!("a malformed URL"));
    let options = |url| {
        let options = options(url)?.application_name("report-service");
        anyhow::Ok(options.options([("statement_timeout", "15min")]))
    };
    let (accounts, ledger) = (options(accounts)?, options(ledger)?);
    let replicas = Replicas::default();
    Ok(Sources { accounts, ledger, schema: Schema::Reporting, replicas })
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
            Parameters::Activity { period, analysis } => {
                self.activity(claimed, period, *analysis, control).await
            }
            Parameters::Reconciliation => self.reconciliation(control).await,
        }
    }

    /// Reads the activity step by step, from the checkpoint of an earlier attempt if there
    /// is one.
    async fn activity(
        &self,
        claimed: &Claimed,
        period: &report_document::Period,
        analysis: bool,
        control: &Control,
    ) -> Result<OwnedDocument, AttemptError> {
        let period = parse(period)?;
        let checkpoint = claimed.checkpoint.clone();
        let checkpoint = checkpoint.and_then(|state| serde_json::from_value(state).ok());
        let failed = |error: ActivityError| anyhow!(error).context("reading the activity");
        let reader = ActivityReader::new(&self.ledger, &period, self.activity, checkpoint);
        let mut reader = reader.await.map_err(failed)?;
        let mut saved = Instant::now();
        while !reader.is_done() {
            let step = control.end().run_until_cancelled(reader.step());
            step.await.ok_or(AttemptError::Ended)?.map_err(failed)?;
            let progress = reader.progress();
            control.step(format!("read {}", progress.step), Some(progress.total));
            control.rows(progress.done);
            if saved.elapsed() >= CHECKPOINT_EVERY {
                let state = serde_json::to_value(reader.state());
                control.checkpoint(state.context("serializing a checkpoint")?);
                saved = Instant::now();
            }
        }
        let mut activity = reader.document(self.issuer.clone());
        if analysis {
            control.step("analyse", None);
            let analysed = analyse(&activity, self.model.as_ref());
            let analysed = control.end().run_until_cancelled(analysed).await;
            activity.analysis = Some(analysed.ok_or(AttemptError::Ended)?);
        }
        Ok(OwnedDocument::Activity(activity))
    }

    async fn reconciliation(&self, control: &Control) -> Result<OwnedDocument, AttemptError> {
        let mut progress = |progress| {
            let (step, rows) = match progress {
                Progress::Records(rows) => ("read records", rows),
                Progress::Balances(rows) => ("read balances", rows),
                Progress::Chains(rows) => ("check chains", rows),
                Progress::Events(rows) => ("check events", rows),
            };
            control.step(step, None);
            control.rows(rows);
        };
        let limits = Limits::default();
        let compared = reconciliation::reconcile(&self.sources, limits, None, &mut progress);
        let findings = control.end().run_until_cancelled(compared).await;
        let findings = findings.ok_or(AttemptError::Ended)?.context("comparing the databases")?;
        Ok(OwnedDocument::Reconciliation(findings.to_document(&self.issuer)))
    }

    async fn statement(
        &self,
        account_id: AccountId,
        period: &report_document::Period,
        control: &Control,
        scratch: &Path,
    ) -> Result<OwnedDocument, AttemptError> {
        let period = parse(period)?;
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
        let sources = StatementSources { ledger: &self.ledger, accounts: &self.accounts };
        let statement =
            reporting::statement(sources, &info, &period, &self.issuer, PATIENCE, writer, progress);
        match statement.await {
            Ok(statement) => Ok(OwnedDocument::LargeStatement(statement, file)),
            Err(StatementError::Stopped) => Err(AttemptError::Ended),
            Err(error) if error.is_permanent() => Err(AttemptError::Permanent(error.to_string())),
            Err(error) => Err(anyhow!(error).context("reading the statement").into()),
        }
    }
}

fn parse(period: &report_document::Period) -> Result<Period, AttemptError> {
    let period = Period::from_document(period);
    period.map_err(|error| {
        let parameter = error.parameter();
        AttemptError::Impossible(format!("{parameter} {error}"))
    })
}
