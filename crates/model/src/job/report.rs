//! The rows of the report database, and the files in the storage. They survive every
//! fault.

/// A report, numbered in the order of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReportId(pub u8);

/// The state of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// No row yet: the client has not sent its request.
    NotRequested,
    /// Waits for its turn, or for its next attempt.
    Queued,
    /// An attempt has a lease.
    Running,
    /// The end: its files are registered.
    Succeeded,
    /// The end: no attempt succeeded.
    Failed,
    /// The end: a client cancelled it.
    Cancelled,
}

impl Status {
    /// Whether the report is accepted and has not ended.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }

    /// Whether the state never changes again.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A row of `report_alerts`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alert {
    /// The dead letter of the report is published.
    pub dead_lettered: bool,
    /// The receiver took the alert.
    pub taken: bool,
    /// The receiver did not take it at least once.
    pub refused: bool,
}

/// A row of `reports`, with its rows of `report_artifacts` and `report_alerts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Report {
    /// The state.
    pub status: Status,
    /// The number of the latest attempt.
    pub attempt: u8,
    /// Counted failures.
    pub failures: u8,
    /// Attempts with the outcome HANDED_OVER, a part of `report_attempts`.
    pub handed_over: u8,
    /// Whether `not_before` has passed.
    pub due: bool,
    /// Whether `lease_until` has passed. Only of a RUNNING report.
    pub lease_over: bool,
    /// Whether a client asked to cancel it, and got the answer 202.
    pub cancel_requested: bool,
    /// Messages of the redrive so far.
    pub sends: u8,
    /// The attempt whose files are registered.
    pub registered: Option<u8>,
    /// The alert.
    pub alert: Option<Alert>,
}

impl Report {
    /// No row.
    pub const NONE: Self = Self {
        status: Status::NotRequested,
        attempt: 0,
        failures: 0,
        handed_over: 0,
        due: false,
        lease_over: false,
        cancel_requested: false,
        sends: 0,
        registered: None,
        alert: None,
    };

    /// Whether a worker may claim it.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.status == Status::Queued && self.due
    }

    /// Whether an attempt has a valid lease.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.status == Status::Running && !self.lease_over
    }
}

/// A file in the storage. One file stands for all formats of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct File {
    /// The report in its path.
    pub report: ReportId,
    /// The attempt in its path. `None`: the path names the report only. Occurs only
    /// without [`super::rules::Rule::PathsByAttempt`].
    pub attempt: Option<u8>,
    /// The attempt that wrote the content.
    pub written_by: u8,
}
