//! `passbook reports download`

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use contract::{ReportId, file_signature::FileSignature};
use serde::Serialize;

use super::{
    api::{Api, ApiArguments},
    error::ApiError,
    names,
    report::{Artifact, Report},
};
use crate::{
    file_signature::{self, Digester, FileDigest, PublicKey},
    new_file::NewFile,
    output::{self, Format, Output},
};

/// Download the files of a report.
///
/// A file appears under its name once it is complete, with the size and the SHA-256 that the API
/// states. Existing files are not replaced without --force.
#[derive(Debug, Args)]
pub(crate) struct Download {
    /// The report's id.
    #[arg(value_name = "ID")]
    report: ReportId,
    /// Only files of these formats. Default: all.
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', value_parser = names::format())]
    format: Vec<String>,
    /// Folder for the files. A missing one is created.
    #[arg(long, value_name = "DIR", default_value = ".")]
    output_dir: PathBuf,
    /// Replace existing files.
    #[arg(long)]
    force: bool,
    /// Also save the signature of each file, beside it and with `.sig` at the end of its name, for
    /// `passbook statement verify`.
    #[arg(long)]
    signature: bool,
    #[command(flatten)]
    api: ApiArguments,
    #[command(flatten)]
    output: Format,
}

/// A file on this machine.
#[derive(Debug, Serialize)]
struct SavedFile {
    path: PathBuf,
    format: String,
    size: u64,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<PathBuf>,
}

impl Download {
    pub(super) async fn run(self) -> Result<ExitCode> {
        fs::create_dir_all(&self.output_dir)
            .with_context(|| format!("the folder {}", self.output_dir.display()))?;
        let api = self.api.api()?;
        let report = Report::get(&api, self.report).await?;
        let mut files = Vec::new();
        for artifact in self.select(&report)? {
            files.push(self.save(&api, artifact).await?);
        }
        match self.output.output {
            Output::Json => output::json(&files)?,
            Output::Table => output::table(
                &["FILE", "BYTES", "SHA-256"],
                files.into_iter().map(|file| {
                    let path = file.path.display().to_string();
                    vec![path, file.size.to_string(), file.sha256]
                }),
            )?,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The files to download.
    fn select<'a>(&self, report: &'a Report) -> Result<Vec<&'a Artifact>> {
        let fields = &report.fields;
        if fields.artifacts.is_empty() {
            let id = fields.report_id;
            match fields.state.as_str() {
                "SUCCEEDED" => bail!("the files of the report {id} have expired: ask for it again"),
                "FAILED" | "CANCELLED" => {
                    bail!("the report {id} is {} and has no files", fields.state)
                }
                state => bail!(
                    "the report {id} is {state}: wait for it with `passbook reports wait {id}`"
                ),
            }
        }
        let wanted =
            |artifact: &&Artifact| self.format.is_empty() || self.format.contains(&artifact.format);
        let selected: Vec<_> = fields.artifacts.iter().filter(wanted).collect();
        for format in &self.format {
            let exists = selected.iter().any(|artifact| artifact.format == *format);
            ensure!(
                exists,
                "the report has no file {format}: it has {}",
                fields.formats.join(", ")
            );
        }
        Ok(selected)
    }

    async fn save(&self, api: &Api, artifact: &Artifact) -> Result<SavedFile> {
        let mut pieces = api.stream(&artifact.href).await?;
        let default = format!("{}.{}", self.report, artifact.format);
        let path = self.output_dir.join(pieces.file_name().unwrap_or(&default));
        let target = NewFile { path: &path, force: self.force };
        target.check_free()?;
        let mut file = target.temporary()?;
        let mut digester = Digester::new();
        let bar = output::progress("bytes", Some(artifact.size));
        while let Some(piece) = pieces.next().await.map_err(ApiError::from)? {
            digester.add(&piece);
            file.write_all(&piece).with_context(|| path.display().to_string())?;
            bar.inc(u64::try_from(piece.len())?);
        }
        bar.finish_and_clear();
        let found = digester.finish();
        let stated =
            FileDigest { sha256: artifact.sha256.to_ascii_lowercase(), size: artifact.size };
        ensure!(
            found == stated,
            "{}: {} bytes with the SHA-256 {} arrived, but the API states {} bytes with {}. Try \
             again",
            artifact.format,
            found.size,
            found.sha256,
            stated.size,
            stated.sha256
        );
        let signature = match self.signature {
            true => Some(self.save_signature(api, artifact, &found, &path).await?),
            false => None,
        };
        target.persist(file)?;
        let FileDigest { sha256, size } = found;
        Ok(SavedFile { path, format: artifact.format.clone(), size, sha256, signature })
    }

    /// Saves the signature beside the file, if it is one of the file.
    async fn save_signature(
        &self,
        api: &Api,
        artifact: &Artifact,
        found: &FileDigest,
        path: &Path,
    ) -> Result<PathBuf> {
        let signature: FileSignature = api.get(&format!("{}.sig", artifact.href)).await?;
        let key = PublicKey::from_pem(&signature.public_key)?;
        if let Some(finding) = file_signature::check(found, &signature, &key) {
            bail!("the signature of {}: {finding}", artifact.format);
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".sig");
        let path = PathBuf::from(name);
        let target = NewFile { path: &path, force: self.force };
        target.check_free()?;
        let mut file = target.temporary()?;
        writeln!(file, "{}", serde_json::to_string_pretty(&signature)?)?;
        target.persist(file)?;
        Ok(path)
    }
}
