//! Settings of the storage.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, Result, bail, ensure};

/// Where the files of reports are stored.
#[derive(clap::Args, Clone, Debug)]
pub struct StorageConfig {
    /// Storage of the reports' files: `file:///folder` or `s3://bucket/prefix`.
    #[arg(
        id = "report_storage_url",
        long = "report-storage-url",
        env = "PASSBOOK_REPORT_STORAGE_URL",
        value_name = "URL"
    )]
    pub url: StorageUrl,
    /// Address of the object storage. Default: AWS, by the region.
    #[arg(
        id = "report_s3_endpoint",
        long = "report-s3-endpoint",
        env = "PASSBOOK_REPORT_S3_ENDPOINT",
        value_name = "URL"
    )]
    pub s3_endpoint: Option<String>,
    /// Region of the bucket.
    #[arg(
        id = "report_s3_region",
        long = "report-s3-region",
        env = "PASSBOOK_REPORT_S3_REGION",
        default_value = "us-east-1"
    )]
    pub s3_region: String,
    /// Access key of the object storage. Without one, the `AWS_…` variables of AWS's own tools
    /// and the machine's role apply.
    #[arg(
        id = "report_s3_access_key_id",
        long = "report-s3-access-key-id",
        env = "PASSBOOK_REPORT_S3_ACCESS_KEY_ID",
        requires = "report_s3_secret_access_key"
    )]
    pub s3_access_key_id: Option<String>,
    /// Secret of the access key.
    #[arg(
        id = "report_s3_secret_access_key",
        long = "report-s3-secret-access-key",
        env = "PASSBOOK_REPORT_S3_SECRET_ACCESS_KEY",
        hide_env_values = true,
        requires = "report_s3_access_key_id"
    )]
    pub s3_secret_access_key: Option<StorageSecret>,
    /// Certificate authorities of the object storage, in PEM. Default: those of this machine.
    #[arg(
        id = "report_s3_ca",
        long = "report-s3-ca",
        env = "PASSBOOK_REPORT_S3_CA",
        value_name = "FILE"
    )]
    pub s3_ca: Option<PathBuf>,
    /// Allow an endpoint without TLS.
    #[arg(id = "report_s3_allow_http", long = "report-s3-allow-http", env = "PASSBOOK_REPORT_S3_ALLOW_HTTP", num_args = 0..=1, default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set)]
    pub s3_allow_http: bool,
    /// Longest time for one request to the storage, and for one silence while a file is read.
    #[arg(id = "report_storage_timeout", long = "report-storage-timeout", env = "PASSBOOK_REPORT_STORAGE_TIMEOUT", value_name = "DURATION", value_parser = parse_seconds, default_value = "30s")]
    pub timeout: Duration,
}

/// The address of a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageUrl {
    /// An absolute path.
    Folder(PathBuf),
    /// `prefix` has no slash at its ends, and may be empty.
    Bucket { bucket: String, prefix: String },
}

impl FromStr for StorageUrl {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("file://") {
            ensure!(path.starts_with('/'), "file:// needs an absolute path: file:///folder");
            ensure!(
                !path.contains(['%', '?', '#']),
                "file:// takes a plain path without %, ? and #"
            );
            let path = PathBuf::from(path);
            let plain = path.components().all(|part| part != std::path::Component::ParentDir);
            ensure!(plain && path.parent().is_some(), "file:// needs a folder below /, without ..");
            return Ok(Self::Folder(path));
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            ensure!(
                (3..=63).contains(&bucket.len()) && bucket.chars().all(plain),
                "s3:// needs a bucket: s3://bucket/prefix"
            );
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            let part =
                |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
            ensure!(
                prefix.is_empty() || prefix.split('/').all(part),
                "the prefix of s3:// may have ASCII letters, digits, . _ - and /"
            );
            return Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
        }
        bail!("must be file:///folder or s3://bucket/prefix")
    }
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// A secret text that `Debug` does not show.
#[derive(Clone)]
pub struct StorageSecret(String);

impl StorageSecret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for StorageSecret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for StorageSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Parses `500ms`, `30s` or `2m`, from 100 ms to an hour.
fn parse_seconds(text: &str) -> Result<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().context("must be like 500ms, 30s or 2m")?;
    let time = match text.strip_prefix(digits) {
        Some("ms") => Duration::from_millis(number),
        Some("s") => Duration::from_secs(number),
        Some("m") => Duration::from_secs(number.saturating_mul(60)),
        _ => bail!("must be like 500ms, 30s or 2m"),
    };
    ensure!((100..=3_600_000).contains(&time.as_millis()), "must be from 100ms to 60m");
    Ok(time)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Command {
        #[command(flatten)]
        storage: StorageConfig,
    }

    #[test]
    fn storage_urls_are_read() {
        let bucket = |bucket: &str, prefix: &str| StorageUrl::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        for (text, url) in [
            ("file:///var/lib/reports", StorageUrl::Folder("/var/lib/reports".into())),
            ("s3://reports", bucket("reports", "")),
            ("s3://reports/", bucket("reports", "")),
            ("s3://reports/a/b.c/", bucket("reports", "a/b.c")),
        ] {
            assert_eq!(text.parse::<StorageUrl>().unwrap(), url, "{text}");
        }
    }

    #[test]
    fn other_urls_are_rejected() {
        for text in [
            "",
            "/var",
            "file:",
            "file://",
            "file://var/reports",
            "file:///",
            "file:///a/../b",
            "file:///a%20b",
            "s3:",
            "s3://",
            "s3:///prefix",
            "s3://b",
            "s3://user@bucket",
            "s3://bucket//a",
            "s3://bucket/../a",
            "s3://bucket/a?b",
            "gs://bucket",
            "http://bucket",
        ] {
            assert!(text.parse::<StorageUrl>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_key_needs_its_secret_and_the_secret_is_not_shown() {
        let read = |more: &[&str]| {
            let arguments = ["x", "--report-storage-url", "s3://reports"];
            Command::try_parse_from(arguments.iter().chain(more))
        };
        let plain = read(&[]).unwrap().storage;
        assert_eq!((plain.timeout, plain.s3_allow_http), (Duration::from_secs(30), false));
        assert!(read(&["--report-s3-access-key-id", "key"]).is_err());
        assert!(read(&["--report-s3-secret-access-key", "hunter2"]).is_err());
        assert!(read(&["--report-storage-timeout", "0s"]).is_err());
        let both = read(&[
            "--report-s3-access-key-id",
            "key",
            "--report-s3-secret-access-key",
            "hunter2",
            "--report-s3-allow-http",
        ]);
        let both = both.unwrap();
        assert!(both.storage.s3_allow_http && !format!("{both:?}").contains("hunter2"));
    }
}
