//! `passbook statement verify`

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use contract::file_signature::FileSignature;
use serde::Serialize;

use crate::{
    file_signature::{self, FileDigest, PublicKey},
    output::{self, Format, Output},
};

/// Check that a file of a report is the one that was issued.
///
/// Checks size, SHA-256 and signature (Ed25519). Works offline and for every format. Exit codes: 0
/// for a valid signature, 1 for a changed file or another signature, 2 when a file can't be read or
/// no key is given.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The file of the report.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File with the signature. Default: FILE.sig.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// PEM file with the issuer's public key. `passbook reports signing-key` prints it.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Use the key in the signature's file. This proves that the file is complete and unchanged since
    /// it was signed, but not who signed it.
    #[arg(long, conflicts_with = "public_key")]
    allow_embedded_key: bool,
    #[command(flatten)]
    format: Format,
}

/// The result of a check.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verification {
    valid: bool,
    /// Whether the key came from another source than the signature.
    origin_proven: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<String>,
    sha256: String,
    size: u64,
}

impl Verify {
    pub(super) fn run(self) -> Result<ExitCode> {
        ensure!(
            self.public_key.is_some() || self.allow_embedded_key,
            "give the issuer's public key with --public-key: `passbook reports signing-key` prints it. \
             The key inside the signature proves only that the file is unchanged, not who signed it: \
             --allow-embedded-key uses it"
        );
        let signature_file = self.signature.clone().unwrap_or_else(|| {
            let mut name = self.file.as_os_str().to_owned();
            name.push(".sig");
            name.into()
        });
        let signature = file_signature::read_text(&signature_file)
            .context("the signature: give its file with --signature")?;
        let signature: FileSignature = serde_json::from_str(&signature)
            .with_context(|| format!("{} is not a signature", signature_file.display()))?;
        let key = match &self.public_key {
            Some(path) => PublicKey::from_pem(&file_signature::read_text(path)?)
                .with_context(|| path.display().to_string())?,
            None => PublicKey::from_pem(&signature.public_key)
                .with_context(|| signature_file.display().to_string())?,
        };
        let file = file_signature::digest_file(&self.file)?;
        let finding = file_signature::check(&file, &signature, &key);
        let FileDigest { sha256, size } = file;
        let valid = finding.is_none();
        let origin_proven = valid && self.public_key.is_some();
        self.print(&Verification { valid, origin_proven, finding, sha256, size })?;
        Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn print(&self, verification: &Verification) -> Result<()> {
        if self.format.output == Output::Json {
            return output::json(verification);
        }
        let file = output::escape(&self.file.display().to_string());
        let Verification { finding, size, sha256, origin_proven, .. } = verification;
        output::line(&match finding {
            Some(finding) => format!("✗ {file}: {}", output::escape(finding)),
            None => format!("✓ {file}: the signature is valid ({size} bytes, SHA-256 {sha256})"),
        })?;
        if finding.is_none() && !origin_proven {
            output::line(
                "  The key came with the signature: the file is unchanged since it was signed, but \
                 anyone can have signed it. Give the issuer's key with --public-key.",
            )?;
        }
        Ok(())
    }
}
