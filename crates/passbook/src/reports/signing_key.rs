//! `passbook reports signing-key`

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Deserialize;

use super::api::ApiArguments;
use crate::output;

/// Print the public key of the signatures, as PEM.
///
/// `passbook statement verify --public-key FILE` checks files with it. Get the key once, over a
/// connection you trust, and keep it.
#[derive(Debug, Args)]
pub(crate) struct SigningKey {
    #[command(flatten)]
    api: ApiArguments,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicKey {
    public_key: String,
}

impl SigningKey {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let key: PublicKey = self.api.api()?.get("/v1/reports/signing-key").await?;
        output::line(key.public_key.trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}
