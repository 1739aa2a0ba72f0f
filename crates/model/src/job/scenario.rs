//! The reports of the clients, and the faults meanwhile. Every field is a bound, and
//! everything within the bounds is explored.

use super::report::ReportId;

/// The number of times each fault may happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Crashes of a replica. It starts again at once.
    pub crashes: u8,
    /// Stops of a replica by SIGTERM. It starts again at once.
    pub stops: u8,
    /// Workers that are frozen until their lease is over, and wake up later.
    pub freezes: u8,
    /// Failed attempts.
    pub failures: u8,
    /// Cancellations by clients.
    pub cancels: u8,
    /// Losses of data by the broker, of any size.
    pub wipes: u8,
    /// Jumps of the broker's clock into the past, for longer than anything else lasts.
    pub clock_jumps: u8,
    /// Publications without a PubAck. They are lost or arrive late.
    pub delayed_publications: u8,
    /// Ack waits that end although a worker has the message.
    pub slow_workers: u8,
    /// Messages of the redrive that no report needs.
    pub redrives: u8,
    /// Alerts that the receiver does not take.
    pub refusals: u8,
    /// Dead letters that the broker refuses for so long that their message is requeued.
    pub refused_letters: u8,
}

/// A bounded world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Number of reports. Clients ask for one after the other.
    pub reports: u8,
    /// The possible faults.
    pub faults: Faults,
    /// Replicas of the report-service.
    pub replicas: u8,
    /// Maximum deliveries of a message.
    pub max_deliver: u8,
    /// Failures until a report is FAILED: five in the system.
    pub max_failures: u8,
    /// Whether a message appears that names no report.
    pub stray: bool,
    /// Whether the ack of a lost message may remove a new message with the same
    /// sequence number.
    pub stale_acks: bool,
}

impl Scenario {
    /// This number of reports, two replicas, and no faults.
    #[must_use]
    pub fn of(reports: u8) -> Self {
        Self {
            reports,
            faults: Faults::default(),
            replicas: 2,
            max_deliver: 3,
            max_failures: 2,
            stray: false,
            stale_acks: false,
        }
    }

    /// The same scenario with these faults.
    #[must_use]
    pub fn with(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// The reports, in the order of asking.
    pub fn ids(&self) -> impl Iterator<Item = ReportId> + use<> {
        (0..self.reports).map(ReportId)
    }
}
