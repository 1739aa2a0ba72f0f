//! Draws the disruptions of an experiment from a seed.

use std::{ops::Range, time::Duration};

use devstack::Fault;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::IndexedRandom};

use super::plan::{Action, Disruption};

/// Between the beginnings of two disruptions.
const PAUSE_MILLISECONDS: Range<u64> = 300..3000;
/// Between the beginnings of two losses of connections or directions.
const LOSS_PAUSE_MILLISECONDS: Range<u64> = 2000..15_000;
/// Between the beginnings of two changes of servers.
const CHANGE_PAUSE_MILLISECONDS: Range<u64> = 2000..10_000;
/// Duration of a disruption with an end of its own.
const DURATION_MILLISECONDS: Range<u64> = 500..8000;
/// Shortest duration of a long freeze: more than the ack wait of 30 s.
const LONG_FREEZE: Duration = Duration::from_secs(35);
/// The databases of the money services.
const MONEY: [&str; 2] = ["account", "transaction"];

/// The disruptions of a seed, in the order of their beginnings.
pub(super) fn plan(seed: u64, length: Duration, cluster: bool) -> Vec<Disruption> {
    let mut draw = Draw(Xoshiro256PlusPlus::seed_from_u64(seed));
    let mut disruptions = Vec::new();
    let mut at = draw.milliseconds(PAUSE_MILLISECONDS);
    while at < length {
        let (action, lasts) = draw.action(cluster);
        let duration = lasts.then(|| draw.milliseconds(DURATION_MILLISECONDS));
        disruptions.push(Disruption { at, action, duration });
        at += draw.milliseconds(PAUSE_MILLISECONDS);
    }
    disruptions.extend(partial_losses(seed, length));
    disruptions.extend(server_changes(seed, length, cluster));
    disruptions.extend(long_freeze(seed, length));
    disruptions.sort_by_key(|disruption| disruption.at);
    disruptions
}

/// Links that lose their connections without a packet, or one direction. They have draws of
/// their own, so that they change no other disruption of a seed.
fn partial_losses(seed: u64, length: Duration) -> Vec<Disruption> {
    let mut draw = Draw(Xoshiro256PlusPlus::seed_from_u64(!seed));
    let mut disruptions = Vec::new();
    let mut at = draw.milliseconds(LOSS_PAUSE_MILLISECONDS);
    while at < length {
        let target = format!("{}/{}", draw.service(), draw.one(&["postgres", "nats*", "*"]));
        let fault = draw.one(&[
            Fault::Vanish,
            Fault::Vanish,
            Fault::SilenceRequests,
            Fault::SilenceResponses,
        ]);
        let undo = (fault != Fault::Vanish).then_some(Fault::Pass);
        let duration = undo.map(|_| draw.milliseconds(DURATION_MILLISECONDS));
        disruptions.push(Disruption {
            at,
            action: Action::Fault { target, fault, undo },
            duration,
        });
        at += draw.milliseconds(LOSS_PAUSE_MILLISECONDS);
    }
    disruptions
}

/// Databases, streams and clocks that are changed for a while, and large poison. They have draws
/// of their own, too.
fn server_changes(seed: u64, length: Duration, cluster: bool) -> Vec<Disruption> {
    let mut draw = Draw(Xoshiro256PlusPlus::seed_from_u64(seed.rotate_left(32)));
    let mut disruptions = Vec::new();
    let mut at = draw.milliseconds(CHANGE_PAUSE_MILLISECONDS);
    while at < length {
        let (action, longest) = draw.change(cluster);
        let duration = longest.map(|longest| draw.milliseconds(500..longest));
        disruptions.push(Disruption { at, action, duration });
        at += draw.milliseconds(CHANGE_PAUSE_MILLISECONDS);
    }
    disruptions
}

/// One replica or all of a service, frozen for longer than the ack wait. None in a short
/// experiment.
fn long_freeze(seed: u64, length: Duration) -> Option<Disruption> {
    let mut draw = Draw(Xoshiro256PlusPlus::seed_from_u64(seed.rotate_left(16)));
    let at = draw.milliseconds(PAUSE_MILLISECONDS);
    let longest = length.checked_sub(at).filter(|longest| *longest > LONG_FREEZE)?;
    let end = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    let beginning = u64::try_from(LONG_FREEZE.as_millis()).unwrap_or_default();
    let duration = draw.milliseconds(beginning..end.min(2 * beginning));
    let (fault, undo) = (Fault::Freeze, Some(Fault::Thaw));
    let action = Action::Fault { target: draw.service(), fault, undo };
    Some(Disruption { at, action, duration: Some(duration) })
}

struct Draw(Xoshiro256PlusPlus);

impl Draw {
    fn milliseconds(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.0.random_range(range))
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of.choose(&mut self.0).unwrap().clone()
    }

    fn service(&mut self) -> String {
        self.one(&[
            "account-service-0",
            "account-service-1",
            "account-service-*",
            "transaction-service-0",
            "transaction-service-1",
            "transaction-service-*",
            "*-service-*",
        ])
        .to_owned()
    }

    fn broker(&mut self, cluster: bool) -> String {
        if cluster { self.one(&["nats-0", "nats-1", "nats-2"]) } else { "nats" }.to_owned()
    }

    /// An action, and whether it lasts until it is undone.
    fn action(&mut self, cluster: bool) -> (Action, bool) {
        const STREAMS: [&str; 3] = ["TRANSACTION", "TRANSACTION_RESULT", "USED_UP"];
        const CONSUMERS: [(&str, &str); 5] = [
            ("TRANSACTION", "deposit-consumer"),
            ("TRANSACTION", "withdrawal-consumer"),
            ("TRANSACTION_RESULT", "account-result-consumer"),
            ("USED_UP", "commands-used-up-consumer"),
            ("USED_UP", "results-used-up-consumer"),
        ];
        let fault = |target: String, fault, undo: Option<Fault>| {
            (Action::Fault { target, fault, undo }, undo.is_some())
        };
        match self.0.random_range(0..25_u8) {
            0..=2 => fault(self.service(), Fault::Kill, None),
            3 => fault(self.service(), Fault::Terminate, None),
            4..=5 => fault(self.service(), Fault::Freeze, Some(Fault::Thaw)),
            6 => fault(self.service(), Fault::Hold, Some(Fault::Release)),
            7..=8 => fault(self.broker(cluster), Fault::Kill, None),
            9 => fault(self.broker(cluster), Fault::Hold, Some(Fault::Release)),
            10 => fault(self.broker(cluster), Fault::Wipe, None),
            11 if cluster => {
                // The node loses the other nodes, but not its clients.
                let node = self.broker(cluster);
                fault(format!("*{node}*"), Fault::Refuse, Some(Fault::Pass))
            }
            11..=12 => fault(self.broker(cluster), Fault::Freeze, Some(Fault::Thaw)),
            13 => fault("postgres".to_owned(), self.one(&[Fault::Kill, Fault::Terminate]), None),
            14 => fault("postgres".to_owned(), Fault::Hold, Some(Fault::Release)),
            15..=18 => {
                let server = self.one(&["postgres", "nats*", "*"]);
                let service = self.service();
                let (milliseconds, bytes) =
                    (self.0.random_range(5..300), self.0.random_range(5_000..200_000));
                let link_fault = self.one(&[
                    Fault::Refuse,
                    Fault::Silence,
                    Fault::Delay(milliseconds),
                    Fault::Throttle(bytes),
                    Fault::Cut,
                ]);
                let undo = (link_fault != Fault::Cut).then_some(Fault::Pass);
                fault(format!("{service}/{server}"), link_fault, undo)
            }
            19 => (Action::DeleteStream(self.one(&STREAMS)), false),
            20 => match self.0.random_range(0..3_u8) {
                0 if cluster => (Action::StepDown(self.one(&STREAMS)), false),
                0..=1 => (Action::PurgeStream(self.one(&STREAMS)), false),
                _ => (Action::ExhaustConnections, true),
            },
            21 => {
                let (stream, consumer) = self.one(&CONSUMERS);
                (Action::DeleteConsumer(stream, consumer), false)
            }
            22 => match self.0.random_range(0..2_u8) {
                0 => (Action::PublishPoison(self.0.random_range(1..200)), false),
                _ => (Action::PublishForgedResults(self.0.random_range(1..50)), false),
            },
            23 => (Action::HoldRows(&MONEY, self.0.random_range(1..4)), true),
            _ => (Action::RepeatCommands(self.0.random_range(1..200)), false),
        }
    }

    /// A change, and its longest duration in milliseconds, if it lasts until it is undone.
    fn change(&mut self, cluster: bool) -> (Action, Option<u64>) {
        const DATABASES: [&[&str]; 3] = [&["account"], &["transaction"], &MONEY];
        const FULL: [(&str, i64); 4] = [
            ("TRANSACTION", 1),
            ("TRANSACTION", 20_000),
            ("TRANSACTION_RESULT", 20_000),
            ("DEAD_LETTER", 1),
        ];
        // Enough for one command or result.
        const SMALL: [(&str, i32); 2] = [("TRANSACTION", 1000), ("TRANSACTION_RESULT", 1000)];
        const OFFSETS: [&str; 5] = ["-1d", "-600", "-3", "+600", "+1d"];
        match self.0.random_range(0..13_u8) {
            0..=1 => (Action::ReadOnly(self.one(&DATABASES)), Some(8000)),
            // Longer than a call may take.
            2 => (Action::AwaitStandby, Some(25_000)),
            3..=4 => {
                let accounts = self.0.random_range(1..4);
                (Action::HoldRows(self.one(&DATABASES), accounts), Some(20_000))
            }
            5..=6 => {
                let (stream, bytes) = self.one(&FULL);
                (Action::LimitStream(stream, bytes), Some(10_000))
            }
            7 => {
                let (stream, bytes) = self.one(&SMALL);
                (Action::LimitMessages(stream, bytes), Some(10_000))
            }
            // A node of a cluster must not forget what it acknowledged.
            8 if cluster => (Action::PublishLargePoison(self.0.random_range(1..8)), None),
            8 => (Action::RestoreStore, Some(10_000)),
            9..=10 => (Action::SetClock(self.one(&OFFSETS)), Some(10_000)),
            11 => (Action::PublishLargePoison(self.0.random_range(1..8)), None),
            _ => (Action::PublishLongIds(self.0.random_range(1..20)), None),
        }
    }
}
