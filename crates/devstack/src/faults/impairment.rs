//! What is wrong with a link.

use super::fault::Fault;

/// The faults in effect on a link. By default, none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Impairment {
    pub(super) refused: bool,
    /// No data from the client arrives.
    pub(super) requests_silent: bool,
    /// No data from the server arrives.
    pub(super) responses_silent: bool,
    /// How often the present connections became silent for ever.
    pub(super) vanished: u32,
    /// The port of another server.
    pub(super) redirected: Option<u16>,
    /// How often the connections were reset.
    pub(super) cuts: u32,
    /// Delay in each direction.
    pub(super) delay_milliseconds: u32,
    /// Throughput in each direction.
    pub(super) bytes_per_second: Option<u32>,
}

impl Impairment {
    /// Adds a fault, or removes all by [`Fault::Pass`].
    pub(super) fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::Cut => self.cuts = self.cuts.wrapping_add(1),
            Fault::Refuse => self.refused = true,
            Fault::Silence => (self.requests_silent, self.responses_silent) = (true, true),
            Fault::SilenceRequests => self.requests_silent = true,
            Fault::Redirect(port) => {
                self.redirected = Some(port);
                self.cuts = self.cuts.wrapping_add(1);
            }
            Fault::SilenceResponses => self.responses_silent = true,
            Fault::Vanish => self.vanished = self.vanished.wrapping_add(1),
            Fault::Delay(milliseconds) => self.delay_milliseconds = milliseconds,
            Fault::Throttle(bytes) => self.bytes_per_second = Some(bytes),
            _ => {
                // The connections to the other server end, too.
                let cuts = self.cuts.wrapping_add(self.redirected.is_some().into());
                *self = Self { cuts, vanished: self.vanished, ..Self::default() };
            }
        }
    }

    /// The state, as `passbook dev fault ls` shows it.
    pub(super) fn describe(self) -> String {
        let mut faults = Vec::new();
        if self.refused {
            faults.push("refused".to_owned());
        }
        faults.extend(self.redirected.map(|port| format!("to port {port}")));
        match (self.requests_silent, self.responses_silent) {
            (true, true) => faults.push("silent".to_owned()),
            (true, false) => faults.push("requests silent".to_owned()),
            (false, true) => faults.push("responses silent".to_owned()),
            (false, false) => {}
        }
        if self.delay_milliseconds > 0 {
            faults.push(format!("{} ms late", self.delay_milliseconds));
        }
        faults.extend(self.bytes_per_second.map(|bytes| format!("{bytes} bytes/s")));
        if faults.is_empty() { "passes".to_owned() } else { faults.join(", ") }
    }
}
