//! `passbook heads export`

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Args;
use contract::file_signature::{ALGORITHM, FileSignature, signed_text};
use credentials::SigningKey;
use futures::TryStreamExt;
use serde::Serialize;
use sqlx::{Connection, PgConnection};
use tempfile::NamedTempFile;
use time::OffsetDateTime;

use crate::{
    arguments::SystemArguments,
    database,
    file_signature::{self, Digester, FileDigest},
    heads_file::{Header, Line, signature_path},
    new_file::NewFile,
    output::{self, Format, Output},
};

/// Write the heads of all chains to a file, and their signature beside it.
///
/// The head of an account is the number and the hash of the last link of its chain: the hash covers
/// all of its transactions since the chain began. Verify before you export, keep FILE and FILE.sig
/// where nobody with access to the database can change them, and check them later with `passbook
/// verify --heads FILE`. Any Ed25519 key will do: `openssl genpkey -algorithm ed25519` makes one.
/// Keep it away from the database, too.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The new file. Its signature has the same name, with `.sig` at its end.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// PEM file with the private key (Ed25519, PKCS#8) to sign with.
    #[arg(long, value_name = "FILE")]
    signing_key: PathBuf,
    /// Replace existing files.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    system: SystemArguments,
    #[command(flatten)]
    format: Format,
}

/// What was exported.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportedHeads {
    file: PathBuf,
    signature: PathBuf,
    heads: u64,
    sha256: String,
    /// Keep it: the signature is checked with it.
    public_key: String,
}

impl Export {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let key = file_signature::read_text(&self.signing_key)?;
        let key =
            SigningKey::from_pem(&key).with_context(|| self.signing_key.display().to_string())?;
        let target = NewFile { path: &self.file, force: self.force };
        let signature_path = signature_path(&self.file);
        let signature_target = NewFile { path: &signature_path, force: self.force };
        target.check_free()?;
        signature_target.check_free()?;
        let system = self.system.resolve().await?;
        let urls = system.databases.context("no database URLs are given")?;
        let ledger = database::connect(&urls.transaction).await;
        let mut ledger = ledger.context("the transaction database")?;
        let mut file = target.temporary()?;
        let (heads, digest) = write(&mut ledger, &mut file, &self.file).await?;
        let signature = sign(&key, &digest);
        let mut signature_file = signature_target.temporary()?;
        writeln!(signature_file, "{}", serde_json::to_string_pretty(&signature)?)?;
        target.persist(file)?;
        signature_target.persist(signature_file)?;
        self.print(&ExportedHeads {
            file: self.file.clone(),
            signature: signature_path,
            heads,
            sha256: digest.sha256,
            public_key: signature.public_key,
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn print(&self, exported: &ExportedHeads) -> Result<()> {
        if self.format.output == Output::Json {
            return output::json(exported);
        }
        let ExportedHeads { file, signature, heads, sha256, public_key } = exported;
        let [file, signature] =
            [file, signature].map(|path| output::escape(&path.display().to_string()));
        output::line(&format!(
            "{heads} heads in {file} (SHA-256 {sha256}), their signature in {signature}. The public \
             key, for `passbook verify --heads`:\n{}",
            public_key.trim_end()
        ))
    }
}

/// Writes the heads of one snapshot. Returns their number and the digest of the file.
async fn write(
    ledger: &mut PgConnection,
    file: &mut NamedTempFile,
    path: &Path,
) -> Result<(u64, FileDigest)> {
    let mut snapshot = ledger.begin().await?;
    sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *snapshot)
        .await?;
    let created_at: OffsetDateTime =
        sqlx::query_scalar("SELECT now()").fetch_one(&mut *snapshot).await?;
    let mut file = BufWriter::new(file);
    let mut digester = Digester::new();
    let mut add = |line: String| {
        digester.add(line.as_bytes());
        file.write_all(line.as_bytes()).with_context(|| path.display().to_string())
    };
    add(Header::new(created_at).to_line()?)?;
    let mut heads = std::pin::pin!(reconciliation::heads(&mut snapshot));
    let bar = output::progress("heads", None);
    let mut count = 0;
    while let Some(head) = heads.try_next().await? {
        add(Line::new(&head).to_line()?)?;
        count += 1;
        bar.set_position(count);
    }
    bar.finish_and_clear();
    file.flush().with_context(|| path.display().to_string())?;
    Ok((count, digester.finish()))
}

fn sign(key: &SigningKey, FileDigest { sha256, size }: &FileDigest) -> FileSignature {
    FileSignature {
        algorithm: ALGORITHM.to_owned(),
        sha256: sha256.clone(),
        size: *size,
        signature: BASE64_STANDARD.encode(key.sign(signed_text(sha256, *size).as_bytes())),
        public_key: key.public_key_pem(),
    }
}
