//! Attempts: the claim, the files, and the end.

use super::{
    protocol::Protocol,
    replica::{Attempt, Phase},
    report::{Alert, File, Report, ReportId, Status},
    rules::Rule,
    state::State,
    stream::Body,
};

/// The end of an attempt without files. Models `job::Outcome` of the report-service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Failed,
    Lost,
    HandedOver,
    Cancelled,
}

impl Protocol {
    /// Whether the limit of running reports allows a claim.
    pub(crate) fn may_claim(&self, state: &State) -> bool {
        !self.keeps(Rule::RunningCheck) || !state.reports.iter().any(Report::is_leased)
    }

    /// Commits a claim. A message that names no report is left to a dead letter.
    pub(crate) fn claim(&self, state: &mut State, replica: usize) -> Option<()> {
        let named = match state.delivery(replica)?.id.message.body {
            Body::Wake(id) => {
                state.report(id).filter(|row| row.status != Status::NotRequested).map(|_| id)
            }
            Body::Stray => None,
        };
        let Some(named) = named else {
            let dead_letter = self.keeps(Rule::DeadLetter);
            return set_phase(
                state,
                replica,
                if dead_letter { Phase::Publish } else { Phase::Acknowledge },
            );
        };
        let oldest = state.oldest_due();
        let claimed = if self.keeps(Rule::OldestFirst) {
            oldest
        } else {
            state.report(named).filter(Report::is_due).map(|_| named)
        };
        let Some(id) = claimed else { return set_phase(state, replica, Phase::Acknowledge) };
        state.order_broken |= claimed != oldest;
        let row = state.report(id)?;
        let number = row.attempt + 1;
        state.write(id, Report { status: Status::Running, attempt: number, due: false, ..row })?;
        let attempt = Attempt { report: id, number, stored: false, frozen: false };
        set_phase(state, replica, Phase::Working(attempt))
    }

    /// Stores the files of the attempt. Another file at the same path is replaced.
    pub(crate) fn store(&self, state: &mut State, replica: usize) -> Option<()> {
        let attempt = state.replicas.get(replica)?.attempt()?;
        let path = self.keeps(Rule::PathsByAttempt).then_some(attempt.number);
        state.files.retain(|file| file.report != attempt.report || file.attempt != path);
        let (report, written_by) = (attempt.report, attempt.number);
        state.files.push(File { report, attempt: path, written_by });
        set_phase(state, replica, Phase::Working(Attempt { stored: true, ..attempt }))
    }

    /// Whether an attempt may write to the row of its report.
    fn owns(&self, row: &Report, attempt: Attempt) -> bool {
        (row.attempt == attempt.number || !self.keeps(Rule::FenceByAttempt))
            && (row.status == Status::Running || !self.keeps(Rule::OnlyRunning))
    }

    /// Commits SUCCEEDED with the files of the attempt. A requested cancellation
    /// precedes it. Nothing changes if the attempt is fenced off.
    pub(crate) fn commit(&self, state: &mut State, replica: usize) -> Option<()> {
        let attempt = state.replicas.get(replica)?.attempt()?;
        let row = state.report(attempt.report)?;
        if self.owns(&row, attempt) {
            if row.cancel_requested && self.keeps(Rule::CancelAtCommit) {
                return self.end(state, replica, Outcome::Cancelled);
            }
            let (status, registered) = (Status::Succeeded, Some(attempt.number));
            state.write(attempt.report, Report { status, registered, lease_over: false, ..row })?;
        }
        set_phase(state, replica, Phase::Acknowledge)
    }

    /// Commits the end of an attempt without files, unless it is fenced off.
    pub(crate) fn end(&self, state: &mut State, replica: usize, outcome: Outcome) -> Option<()> {
        let attempt = state.replicas.get(replica)?.attempt()?;
        let owns = self.owns(&state.report(attempt.report)?, attempt);
        if owns {
            self.write_end(state, replica, attempt.report, outcome)?;
        }
        let queued = state.report(attempt.report)?.status == Status::Queued;
        if outcome == Outcome::Failed && owns && queued && !self.keeps(Rule::Requeue) {
            let delivery = state.replicas.get_mut(replica)?.delivery.take()?;
            if let Some(message) = state.stream.get_mut(&delivery.id).filter(|_| !delivery.stale) {
                message.delayed_for = Some(attempt.report);
            }
            return Some(());
        }
        set_phase(state, replica, Phase::Acknowledge)
    }

    /// Writes the end of an attempt, with the alert of the last failure.
    pub(crate) fn write_end(
        &self,
        state: &mut State,
        replica: usize,
        id: ReportId,
        outcome: Outcome,
    ) -> Option<()> {
        let row = state.report(id)?;
        let next = self.after(&row, outcome);
        if next.status == Status::Failed && !self.keeps(Rule::AlertWithFailure) {
            state.write(id, Report { alert: None, ..next })?;
            state.replicas.get_mut(replica)?.alerts.push(id);
            return Some(());
        }
        state.write(id, next)
    }

    /// The row after an attempt without files. Models `job::after` of the report-service.
    fn after(&self, row: &Report, outcome: Outcome) -> Report {
        let next = Report { lease_over: false, ..*row };
        let cancels = row.cancel_requested && self.keeps(Rule::CancelBeforeRetry);
        let counts = match outcome {
            Outcome::Cancelled => return Report { status: Status::Cancelled, ..next },
            _ if cancels => return Report { status: Status::Cancelled, ..next },
            Outcome::HandedOver => !self.keeps(Rule::SpareHandOvers),
            Outcome::Lost => self.keeps(Rule::CountCrashes),
            Outcome::Failed => true,
        };
        let failures = row.failures + u8::from(counts);
        let handed_over = row.handed_over + u8::from(outcome == Outcome::HandedOver);
        let next = Report { failures, handed_over, ..next };
        if counts && failures >= self.scenario.max_failures {
            return Report { status: Status::Failed, alert: Some(Alert::default()), ..next };
        }
        Report { status: Status::Queued, due: !counts, ..next }
    }

    /// Ends a lost attempt.
    pub(crate) fn expire(&self, state: &mut State, id: ReportId) -> Option<()> {
        // Which replica does it makes no difference.
        self.write_end(state, 0, id, Outcome::Lost)
    }

    /// Whether a file is needed: it is registered, or its attempt runs.
    pub(crate) fn is_wanted(&self, state: &State, file: &File) -> bool {
        let Some(row) = state.report(file.report) else { return false };
        let is_of = |attempt: u8| file.attempt.is_none_or(|number| number == attempt);
        row.registered.is_some_and(is_of)
            || (self.keeps(Rule::SpareRunning)
                && row.status == Status::Running
                && is_of(row.attempt))
    }
}

pub(crate) fn set_phase(state: &mut State, replica: usize, phase: Phase) -> Option<()> {
    state.delivery_mut(replica)?.phase = phase;
    Some(())
}
