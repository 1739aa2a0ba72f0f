//! Waits for the end of a report, and shows its progress.
//!
//! The API sends an event for each change. Where no events arrive, for example through a proxy that
//! holds them back, the report is polled.

use std::time::Duration;

use anyhow::{Result, anyhow};
use client::{ReportEvent, ReportProgress};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep};

use super::{
    api::Api,
    error::ApiError,
    report::{Report, is_end},
};

const POLL: Duration = Duration::from_secs(2);
/// How long the API may be away.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until the report has ended.
///
/// # Errors
/// When the API rejects a request, or does not answer for two minutes.
pub(super) async fn until_ended(api: &Api, report: Report) -> Result<Report> {
    let bar = Bar::new();
    bar.show(&report.fields.state, report.fields.progress.as_ref());
    let ended = follow(api, report, &bar).await;
    bar.0.finish_and_clear();
    ended
}

async fn follow(api: &Api, mut report: Report, bar: &Bar) -> Result<Report> {
    let id = report.fields.report_id;
    let mut answered = Instant::now();
    while !report.has_ended() {
        let events = read_events(api, &report, bar, &mut answered).await;
        match events.map(|()| Report::get(api, id)) {
            Err(error) => give_up(error, answered)?,
            Ok(request) => match request.await {
                Ok(present) => {
                    (report, answered) = (present, Instant::now());
                    bar.show(&report.fields.state, report.fields.progress.as_ref());
                }
                Err(error) => give_up(error, answered)?,
            },
        }
        if !report.has_ended() {
            sleep(POLL).await;
        }
    }
    Ok(report)
}

/// Shows events until the report has ended or the stream ends.
///
/// # Errors
/// When the API rejects the request for good. A stream that breaks is no error: the report is
/// polled next.
async fn read_events(
    api: &Api,
    report: &Report,
    bar: &Bar,
    answered: &mut Instant,
) -> Result<(), ApiError> {
    let mut events = match api.follow(report.fields.report_id).await {
        Ok(events) => events,
        Err(error) if error.is_transient() => return Ok(()),
        Err(error) => return Err(error),
    };
    while let Ok(Some(ReportEvent { state, progress })) = events.next().await {
        *answered = Instant::now();
        bar.show(state.as_str(), progress.as_ref());
        if is_end(state.as_str()) {
            break;
        }
    }
    Ok(())
}

fn give_up(error: ApiError, answered: Instant) -> Result<()> {
    if !error.is_transient() {
        return Err(error.into());
    }
    if answered.elapsed() > PATIENCE {
        return Err(anyhow!("{error}; the API has been away for {} s", PATIENCE.as_secs()));
    }
    tracing::debug!("{error}");
    Ok(())
}

/// The progress on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    fn show(&self, state: &str, progress: Option<&ReportProgress>) {
        let step = progress.filter(|_| state == "RUNNING");
        let known = step.and_then(|progress| Some((progress, progress.total?)));
        let style = match known {
            Some(_) => "{spinner} {msg} {bar:30} {human_pos} of {human_len} ({elapsed})",
            None => "{spinner} {msg} ({elapsed})",
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            self.0.set_style(style);
        }
        match (known, step) {
            (Some((progress, total)), _) => {
                self.0.set_length(total);
                self.0.set_position(progress.done);
                self.0.set_message(progress.step.clone());
            }
            (None, Some(progress)) => self.0.set_message(progress.to_string()),
            (None, None) => self.0.set_message(state.to_lowercase()),
        }
    }
}
