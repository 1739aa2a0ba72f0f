//! Settings of the function: flags and environment variables.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::ensure;
use artifacts::StorageConfig;
use clap::{Args, Parser};
use runtime::{
    setting::{Secret, parse_duration},
    telemetry::logs::LogConfig,
};

/// Renders reports for the report-service, as an HTTP function.
///
/// POST / takes a document and answers with a file. The file is stored, and the answer
/// refers to it, if it is large and a storage is configured.
#[derive(Debug, Clone, Parser)]
// The report-service requires a storage, this function does not.
#[command(version, mut_arg("report_storage_url", |url| url.required(false)))]
pub struct Config {
    #[command(flatten)]
    pub logs: LogConfig,
    #[command(flatten)]
    pub function: FunctionConfig,
    /// The storage of the report-service. Without one, each file is in its answer, and a
    /// document must be in its request.
    #[command(flatten)]
    pub storage: Option<StorageConfig>,
}

/// Settings of the HTTP function.
#[derive(Debug, Clone, Args)]
pub struct FunctionConfig {
    /// Address of POST / and GET /livez.
    #[arg(long, env = "PASSBOOK_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Bearer token of the report-service: set the variable, not the flag. Required on an address
    /// that other machines reach.
    #[arg(long, env = "PASSBOOK_REPORT_RENDERER_TOKEN", hide_env_values = true)]
    pub report_renderer_token: Option<Secret>,
    /// Time limit for one rendering.
    #[arg(long, env = "PASSBOOK_REPORT_RENDERER_TIMEOUT", value_parser = parse_duration, value_name = "DURATION", default_value = "15m")]
    pub report_renderer_timeout: Duration,
    /// Maximum size of a file in an answer, in bytes. A larger file is stored.
    #[arg(long, env = "PASSBOOK_REPORT_RENDERER_MAX_ANSWER", default_value_t = 4 * 1024 * 1024)]
    pub report_renderer_max_answer: u64,
    /// Renderings at the same time: 1 to 64. More requests get 503.
    #[arg(long, env = "PASSBOOK_REPORT_RENDERER_CONCURRENCY", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub report_renderer_concurrency: u8,
    /// Directory of temporary files. Default: the system's.
    #[arg(long, env = "PASSBOOK_REPORT_SCRATCH_DIR")]
    pub report_scratch_dir: Option<PathBuf>,
    /// After SIGTERM, the time limit for renderings in process.
    #[arg(long, env = "PASSBOOK_GRACE_PERIOD", value_parser = parse_duration, value_name = "DURATION", default_value = "20s")]
    pub grace_period: Duration,
}

impl FunctionConfig {
    /// Rejects invalid settings before a port is bound.
    ///
    /// # Errors
    /// The first invalid setting, by name.
    pub fn check(&self) -> anyhow::Result<()> {
        let token = self.report_renderer_token.as_ref().map(Secret::expose);
        ensure!(token != Some(""), "PASSBOOK_REPORT_RENDERER_TOKEN is empty");
        ensure!(
            token.is_some() || self.listen.ip().is_loopback(),
            "PASSBOOK_REPORT_RENDERER_TOKEN is required to listen on {}: set it, or listen on \
             127.0.0.1",
            self.listen
        );
        Ok(())
    }

    /// The directory of temporary files.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.report_scratch_dir.clone().unwrap_or_else(std::env::temp_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from(["report-renderer"].iter().chain(arguments))
    }

    #[test]
    fn an_address_for_other_machines_needs_a_token() {
        for (arguments, allowed) in [
            (&[][..], true),
            (&["--listen", "[::1]:80"], true),
            (&["--listen", "0.0.0.0:80"], false),
            (&["--listen", "[::]:80"], false),
            (&["--listen", "0.0.0.0:80", "--report-renderer-token", ""], false),
            (&["--listen", "0.0.0.0:80", "--report-renderer-token", "t0ken"], true),
        ] {
            let config = read(arguments).unwrap();
            assert_eq!(config.function.check().is_ok(), allowed, "{arguments:?}");
            assert!(!format!("{config:?}").contains("t0ken"));
        }
    }

    #[test]
    fn the_storage_is_optional() {
        assert!(read(&[]).unwrap().storage.is_none());
        let storage = read(&["--report-storage-url", "file:///var/lib/reports"]).unwrap().storage;
        assert_eq!(storage.unwrap().url.to_string(), "file:///var/lib/reports");
    }
}
