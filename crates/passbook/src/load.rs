//! `passbook load`

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use load::{AccountDistribution, Mix, Pace, Plan, Report, Shape, Target, WaitFor};
use serde::Serialize;

use crate::{
    cli::{Dir, stack_of},
    output::{self, Format, Output},
};

/// Move money as fast as the development stack takes it, or at a fixed rate, and measure.
///
/// Opens accounts of its own, sends deposits and withdrawals straight to the replicas of the
/// account-service, and waits until all of them are settled. Exits with 1 when a request was not
/// accepted, or a record did not settle.
///
/// Without --rate each client sends its next request once it has its answer (a closed loop: how
/// much can be done). With --rate requests are due at even times, and latency counts from then
/// (an open loop: how long it takes).
#[derive(Debug, Args)]
pub(crate) struct Load {
    #[command(flatten)]
    dir: Dir,
    /// Clients, each with a connection of its own. With --rate, requests that can be on their way
    /// at a time.
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    clients: u16,
    /// How long requests are sent.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Requests a second, in an open loop.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Accounts to open and move the money of.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    accounts: u32,
    /// Move the money of one account only.
    #[arg(long, conflicts_with = "zipf")]
    hot: bool,
    /// Move the k-th account's money with a chance of 1/k^S instead of that of all alike.
    #[arg(long, value_name = "S", value_parser = exponent)]
    zipf: Option<f64>,
    /// Share of withdrawals, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    withdrawals: f64,
    /// Share of the withdrawals that ask for more than is there, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    refused: f64,
    /// Have each client wait for the settled record (Prefer: wait=10).
    #[arg(long, conflicts_with = "batch")]
    wait: bool,
    /// Movements in a request, through POST /v1/batches.
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

/// The document of `-o json`: what was asked for, and what was measured.
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
    /// Moves money and prints the figures. Exit code 1 when something was not
    /// accepted or did not settle.
    ///
    /// # Errors
    /// When no stack runs, or a part of it can't be reached.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let target = Target::of(&stack_of(&self.dir)?)?;
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
        let of = if self.rate.is_some() { "from when it was due" } else { "from when it was sent" };
        let until = match (self.wait, self.batch) {
            (true, _) => "until it was settled",
            (false, None) => "until it was accepted",
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
            "\nlatency, {until}, {of}: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, \
             longest {:.2} ms",
            latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max
        ))?;
        output::line(&format!(
            "refused by the ledger: {refused}; still PENDING: {pending}; the load took {:.1} µs of \
             a processor for each request",
            report.cpu_micros_per_request
        ))?;
        if report.unexpected > 0 {
            let statuses: Vec<_> = report
                .statuses
                .iter()
                .map(|(status, count)| format!("{count} × {status}"))
                .collect();
            output::line(&format!(
                "not accepted: {} ({}, 0 being no answer)",
                report.unexpected,
                statuses.join(", ")
            ))?;
        }
        for sample in &report.samples {
            output::line(&format!("  {}", output::safe(sample)))?;
        }
        Ok(())
    }
}

fn row(what: &str, count: u64, per_second: f64, seconds: f64) -> Vec<String> {
    vec![what.to_owned(), count.to_string(), format!("{per_second:.0}"), format!("{seconds:.2}")]
}
