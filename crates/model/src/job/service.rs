//! The report-service besides its worker: requests, the redrive, alerts.

use super::{
    protocol::Protocol,
    report::{Alert, Report, ReportId, Status},
    rules::Rule,
    state::State,
    stream::{Body, Message, MessageId},
};

impl Protocol {
    /// Commits the QUEUED row, which is also the outbox. The message is now in memory.
    pub(crate) fn accept(&self, state: &mut State, replica: usize, id: ReportId) -> Option<()> {
        let row = state.report(id).filter(|row| row.status == Status::NotRequested)?;
        state.write(id, Report { status: Status::Queued, due: true, ..row })?;
        let replica = state.replicas.get_mut(replica)?;
        if self.keeps(Rule::RowBeforeMessage) {
            replica.outgoing.push(wake(id, MessageId::Report(id)));
        } else {
            replica.uncommitted.retain(|other| *other != id);
        }
        Some(())
    }

    pub(crate) fn send_unrecorded(
        &self,
        state: &mut State,
        replica: usize,
        id: ReportId,
    ) -> Option<()> {
        state.replicas.get_mut(replica)?.uncommitted.push(id);
        state.store_message(wake(id, MessageId::Report(id)));
        Some(())
    }

    /// Cancels a QUEUED report, or asks the attempt of a RUNNING one to end.
    pub(crate) fn cancel(&self, state: &mut State, id: ReportId) -> Option<()> {
        state.remaining.cancels = state.remaining.cancels.checked_sub(1)?;
        let row = state.report(id).filter(|row| row.status.is_open())?;
        let status = if row.status == Status::Queued { Status::Cancelled } else { row.status };
        state.write(id, Report { status, cancel_requested: true, ..row })
    }

    /// Commits the number of the next message of a due report.
    pub(crate) fn redrive(&self, state: &mut State, replica: usize, id: ReportId) -> Option<()> {
        state.remaining.redrives = state.remaining.redrives.checked_sub(1)?;
        let row = state.report_mut(id).filter(|row| row.is_due())?;
        row.sends += 1;
        let message_id = if self.keeps(Rule::RedriveMessageId) {
            MessageId::Send(id, row.sends)
        } else {
            MessageId::Report(id)
        };
        state.replicas.get_mut(replica)?.outgoing.push(wake(id, message_id));
        Some(())
    }

    /// Publishes a message once. A lost one is left to the redrive.
    pub(crate) fn send(
        &self,
        state: &mut State,
        replica: usize,
        message: Message,
        delayed: bool,
    ) -> Option<()> {
        let outgoing = &mut state.replicas.get_mut(replica)?.outgoing;
        let index = outgoing.iter().position(|other| *other == message)?;
        outgoing.remove(index);
        if delayed {
            let left = &mut state.remaining.delayed_publications;
            *left = left.checked_sub(1)?;
            state.in_flight.push(message);
        } else {
            state.store_message(message);
        }
        Some(())
    }

    pub(crate) fn insert_alert(
        &self,
        state: &mut State,
        replica: usize,
        id: ReportId,
    ) -> Option<()> {
        state.replicas.get_mut(replica)?.alerts.retain(|other| *other != id);
        state.report_mut(id)?.alert = Some(Alert::default());
        Some(())
    }
}

fn wake(report: ReportId, id: MessageId) -> Message {
    Message { id, body: Body::Wake(report) }
}
