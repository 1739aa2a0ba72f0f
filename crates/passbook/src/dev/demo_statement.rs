//! The last step of the demo: a statement of the account, as PDF and JSON.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use client::{IdempotencyKey, Request};
use devstack::StackFile;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::demo_steps::{Step, Teller};

/// Makes a statement from the opening of the account until now, and checks its figures.
///
/// # Errors
/// When the API can't be reached.
pub(super) async fn run(
    teller: &mut Teller<'_>,
    file: &StackFile,
    dir: &Path,
    account: &Value,
) -> Result<()> {
    let now = OffsetDateTime::now_utc();
    // As exact as PostgreSQL.
    let now = now.replace_microsecond(now.microsecond())?.format(&Rfc3339)?;
    let request = json!({
        "kind": "statement",
        "accountId": account.get("accountId"),
        "from": account.get("createdAt"),
        "to": now,
        "timeZone": "Asia/Seoul",
        "formats": ["pdf", "json"],
    });
    let request = Request::post("/v1/reports", &request)?.key(&IdempotencyKey::random());
    let request = request.wait(Some(Duration::from_secs(30)));
    let make = Step::new("make a statement", request).expect("state", "SUCCEEDED");
    let report = teller.perform(make).await?;
    let Some(figures) = href(&report, "json") else { return Ok(()) };
    let figures = Step::new("read the statement", Request::get(figures))
        .expect("opening.balance", "0")
        .expect("credits.amount", "10000")
        .expect("debits.amount", "2500")
        .expect("closing.balance", "7500");
    teller.perform(figures).await?;
    let pdf = stored_pdf(dir, &report).map(|path| path.display().to_string());
    // In another storage than the stack's folder, only the API has it.
    let pdf = pdf.or_else(|| Some(format!("{}{}", file.api, href(&report, "pdf")?)));
    writeln!(teller.out, "  its PDF: {}", pdf.unwrap_or_default())?;
    Ok(())
}

/// The path of a file of the report in the API.
fn href<'a>(report: &'a Value, format: &str) -> Option<&'a str> {
    let artifacts = report.get("artifacts")?.as_array()?;
    let artifact = artifacts
        .iter()
        .find(|artifact| artifact.get("format").and_then(Value::as_str) == Some(format))?;
    artifact.get("href")?.as_str()
}

/// The PDF in the stack's own storage.
fn stored_pdf(dir: &Path, report: &Value) -> Option<PathBuf> {
    let (id, attempt) = (report.get("reportId")?.as_str()?, report.get("attempt")?.as_i64()?);
    let folder = dir.join("artifacts").join(id).join(attempt.to_string());
    let paths = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut pdfs = paths.filter(|path| path.extension().is_some_and(|name| name == "pdf"));
    pdfs.next()
}
