//! The report-service's own settings: the databases it reads, its files and its
//! key.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use contract::ReportQueue;

use crate::{
    database,
    service::{DRAIN_DELAY, Environment, StackParts},
};

/// The folder of the finished files in the stack's folder `dir`.
pub(crate) fn artifacts(dir: &Path) -> PathBuf {
    dir.join("artifacts")
}

/// Whether the report-service makes an entry of this name in the folder of the
/// finished files: a folder for each report, named by its id, and files that it
/// checks the folder with.
pub(crate) fn is_artifact(name: &str) -> bool {
    let name = name.split_once('#').map_or(name, |(name, _)| name);
    let name = name.strip_prefix("check-").unwrap_or(name);
    let is_id = name.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && name.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    is_id || name == ".clock"
}

/// The folder of the files in the making.
pub(crate) fn scratch(dir: &Path) -> PathBuf {
    dir.join("scratch")
}

/// The queue of reports under the names in the caller's settings, which the replicas
/// inherit. The broker's users have their permissions under these names.
///
/// # Errors
/// If a name is invalid.
pub(crate) fn queue() -> Result<ReportQueue> {
    let queue = ReportQueue::from_variables(|variable| std::env::var(variable).ok());
    queue.map_err(|(variable, error)| anyhow!("{variable}: {error}"))
}

/// The settings of one replica.
///
/// # Errors
/// If a password is missing, or the signing key is not valid.
pub(crate) fn environment(parts: StackParts<'_>) -> Result<Environment> {
    let StackParts { postgres, secrets, dir } = parts;
    let reader_url = |database| postgres.report_reader_url(database, secrets);
    Ok(vec![
        ("PASSBOOK_REPORT_LEDGER_URL", reader_url(&database::TRANSACTION)?),
        ("PASSBOOK_REPORT_ACCOUNTS_URL", reader_url(&database::ACCOUNT)?),
        // The storage takes the path as it is, without escapes.
        ("PASSBOOK_REPORT_STORAGE_URL", format!("file://{}", artifacts(dir).display())),
        ("PASSBOOK_REPORT_SCRATCH_DIR", scratch(dir).display().to_string()),
        ("PASSBOOK_REPORT_SIGNING_KEY", secrets.report_signing_key()?.private_key_pem()),
        (DRAIN_DELAY.0, DRAIN_DELAY.1.to_owned()),
    ])
}
