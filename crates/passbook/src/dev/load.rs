//! `passbook load`

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use load::{AccountDistribution, Mix, Pace, Plan, Report, Shape, Target, WaitFor};
use serde::Serialize;

use crate::{
    arguments::{StackDir, TokenArgument},
    output::{self, Format, Output},
};

/// Generate load on the development stack or another system, and measure throughput and latency.
///
/// Opens its own accounts, sends deposits and withdrawals directly to the replicas of the
/// account-service, and waits until all records are settled. Exits with 1 when a request was not
/// accepted or a record did not settle.
///
/// With --api, it uses nothing but the API of a running system, and needs a teller's token. The
/// number of settled records is exact, and the time until the last one is settled is known to a
/// second.
///
/// Without --rate, each client sends its next request after the response to the last one (closed
/// loop, for measuring throughput). With --rate, requests are due at regular times, and the latency
/// counts from the due time (open loop, for measuring latency).
#[derive(Debug, Args)]
pub(crate) struct Load {
    #[command(flatten)]
    dir: StackDir,
    /// URL of the API of another system, such as http://127.0.0.1:8080.
    #[arg(long, visible_alias = "url", value_name = "URL", conflicts_with = "dir")]
    api: Option<String>,
    #[command(flatten)]
    token: TokenArgument,
    /// Number of clients, each with its own connection. With --rate, the maximum number of
    /// concurrent requests.
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    clients: u16,
    /// Duration of sending requests, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Requests per second, in an open loop.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Number of accounts to open and use.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    accounts: u32,
    /// Use one of the accounts only.
    #[arg(long, conflicts_with = "zipf")]
    hot: bool,
    /// Choose the k-th account with a probability proportional to 1/k^S. By default, all accounts
    /// are equally likely.
    #[arg(long, value_name = "S", value_parser = exponent)]
    zipf: Option<f64>,
    /// Share of withdrawals, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    withdrawals: f64,
    /// Share of the withdrawals above the balance, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    refused: f64,
    /// Request the settled record in each response (Prefer: wait=10).
    #[arg(long, conflicts_with = "batch")]
    wait: bool,
    /// Number of movements in each request, sent to POST /v1/batches.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: Option<u16>,
    #[command(flatten)]
    format: Format,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "must be from 0 to 1".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.1..=1e6).contains(rate));
    rate.ok_or_else(|| "must be from 0.1 to 1000000".to_owned())
}

fn exponent(text: &str) -> Result<f64, String> {
    let exponent = text.parse().ok().filter(|exponent| (0.0..=10.0).contains(exponent));
    exponent.ok_or_else(|| "must be from 0 to 10".to_owned())
}

/// The document of `-o json`: the arguments and the measurements.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    clients: u16,
    rate: Option<f64>,
    accounts: u32,
    #[serde(flatten)]
    report: &'a Report,
}

impl Load {
    /// Generates the load and prints the measurements. Exit code 1 when a request was not accepted
    /// or a record did not settle.
    ///
    /// # Errors
    /// When no stack runs, or a part of it can't be reached.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let target = match &self.api {
            Some(url) => {
                let token =
                    self.token.token.clone().context("--api needs a token in PASSBOOK_TOKEN")?;
                Target::of_api(url, token).await?
            }
            None => Target::of(&self.dir.running_stack()?)?,
        };
        let plan = self.plan();
        let opening = output::progress("opening accounts", None);
        opening.enable_steady_tick(Duration::from_millis(100));
        let number = usize::try_from(self.accounts)?;
        let accounts = load::open_accounts(&target, number, self.withdrawals > 0.0).await;
        opening.finish_and_clear();
        let bar = output::progress("accepted", None);
        let report = load::run(&target, &accounts?, plan, |progress| {
            bar.set_message(format!("accepted, {} settled", progress.settled));
            bar.set_position(progress.accepted);
        })
        .await;
        bar.finish_and_clear();
        let report = report?;
        self.print(&report)?;
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn plan(&self) -> Plan {
        Plan {
            pace: match self.rate {
                Some(rate) => Pace::Open { rate, connections: self.clients },
                None => Pace::Closed { clients: self.clients },
            },
            duration: Duration::from_secs(self.seconds),
            wait_for: if self.wait { WaitFor::Settled } else { WaitFor::Accepted },
            distribution: match self.zipf {
                _ if self.hot => AccountDistribution::Hot,
                Some(exponent) => AccountDistribution::Zipf(exponent),
                None => AccountDistribution::Uniform,
            },
            mix: Mix { withdrawals: self.withdrawals, refused: self.refused },
            shape: self.batch.map_or(Shape::Single, Shape::Batch),
        }
    }

    fn print(&self, report: &Report) -> Result<()> {
        if self.format.output == Output::Json {
            let Self { clients, rate, accounts, .. } = *self;
            return output::json(&Document { clients, rate, accounts, report });
        }
        let Report { accepted, settled, refused, pending, latency, .. } = report;
        let start = if self.rate.is_some() { "from the due time" } else { "from sending" };
        let end = match (self.wait, self.batch) {
            (true, _) => "until settled",
            (false, None) => "until accepted",
            (false, Some(_)) => "of a whole batch",
        };
        output::table(
            &["WHAT", "NUMBER", "A SECOND", "SECONDS"],
            [
                row("accepted", *accepted, report.accepted_per_second, report.seconds),
                row("settled", *settled, report.settled_per_second, report.settled_after_seconds),
            ],
        )?;
        output::line(&format!(
            "\nlatency, {end}, {start}: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, \
             longest {:.2} ms",
            latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max
        ))?;
        output::line(&format!(
            "refused by the ledger: {refused}; still PENDING: {pending}; the load generator took {:.1} \
             µs of processor time per request",
            report.cpu_micros_per_request
        ))?;
        if report.unexpected > 0 {
            let statuses: Vec<_> = report
                .statuses
                .iter()
                .map(|(status, count)| format!("{count} × {status}"))
                .collect();
            output::line(&format!(
                "not accepted: {} ({}; status 0 means no response)",
                report.unexpected,
                statuses.join(", ")
            ))?;
        }
        for sample in &report.samples {
            output::line(&format!("  {}", output::escape(sample)))?;
        }
        Ok(())
    }
}

fn row(name: &str, count: u64, per_second: f64, seconds: f64) -> Vec<String> {
    vec![name.to_owned(), count.to_string(), format!("{per_second:.0}"), format!("{seconds:.2}")]
}
