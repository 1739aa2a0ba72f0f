//! The plan of an experiment: which disruption begins when. It is drawn from a
//! seed, so that the same plan can be drawn again.

use std::{fmt, time::Duration};

use devstack::Fault;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::IndexedRandom};

/// Between the beginnings of two disruptions.
const PAUSE_MILLISECONDS: std::ops::Range<u64> = 300..3000;
/// Between the beginnings of two losses of connections or directions.
const LOSS_PAUSE_MILLISECONDS: std::ops::Range<u64> = 2000..15_000;
/// Duration of a disruption with an end of its own.
const DURATION_MILLISECONDS: std::ops::Range<u64> = 500..8000;

/// One disruption of a running system.
#[derive(Debug, Clone)]
pub struct Disruption {
    /// When it begins, counted from the start of the experiment.
    pub at: Duration,
    pub action: Action,
    /// How long it lasts; `None` for an action without an end, such as a kill.
    pub duration: Option<Duration>,
}

#[derive(Debug, Clone)]
pub enum Action {
    /// A fault of all processes or links with a name that matches `target`, and the fault that
    /// undoes it.
    Fault {
        target: String,
        fault: Fault,
        undo: Option<Fault>,
    },
    DeleteStream(&'static str),
    PurgeStream(&'static str),
    /// Stream and consumer.
    DeleteConsumer(&'static str, &'static str),
    /// The leader of a stream steps down.
    StepDown(&'static str),
    /// All free connections of PostgreSQL are taken, then those of the services are cut.
    ExhaustConnections,
    /// Another transaction holds the rows of this many accounts, in the account database and in
    /// the ledger.
    HoldRows(u8),
    /// This many invalid messages are published.
    PublishPoison(u16),
    /// This many results are published without a decision of the ledger, one or several a message.
    PublishForgedResults(u16),
    /// This many commands are published again, one or several a message.
    RepeatCommands(u16),
}

/// An experiment: its disruptions and the load meanwhile.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// The title of its report.
    pub name: String,
    pub disruptions: Vec<Disruption>,
    pub clients: usize,
    /// Whether the broker is a cluster of three nodes.
    pub cluster: bool,
    /// Maximum commands or results of the services' messages.
    pub message_parts: u8,
}

impl Experiment {
    /// Draws the disruptions of `length` from a seed.
    #[must_use]
    pub fn from_seed(seed: u64, length: Duration, clients: usize, cluster: bool) -> Self {
        const PARTS: [u8; 6] = [100, 1, 7, 33, 2, 50];
        let (name, disruptions) = (format!("seed {seed}"), plan(seed, length, cluster));
        // Not drawn: another draw would change the disruptions of every seed.
        let at = usize::try_from(seed % 6).unwrap_or_default();
        Self { name, disruptions, clients, cluster, message_parts: PARTS[at] }
    }
}

impl fmt::Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Fault { target, fault, .. } => {
                write!(f, "{} {target}", format!("{fault:?}").to_lowercase())?;
            }
            Action::DeleteStream(stream) => write!(f, "delete stream {stream}")?,
            Action::PurgeStream(stream) => write!(f, "purge stream {stream}")?,
            Action::DeleteConsumer(_, consumer) => write!(f, "delete consumer {consumer}")?,
            Action::StepDown(stream) => write!(f, "step down leader of {stream}")?,
            Action::ExhaustConnections => write!(f, "exhaust the connections of postgres")?,
            Action::HoldRows(count) => write!(f, "hold the rows of {count} accounts")?,
            Action::PublishPoison(count) => write!(f, "publish {count} poison messages")?,
            Action::PublishForgedResults(count) => write!(f, "publish {count} forged results")?,
            Action::RepeatCommands(count) => write!(f, "publish {count} commands again")?,
        }
        match self.duration {
            Some(duration) => write!(f, " for {:.1} s", duration.as_secs_f64()),
            None => Ok(()),
        }
    }
}

/// The disruptions of a seed, in the order of their beginnings.
fn plan(seed: u64, length: Duration, cluster: bool) -> Vec<Disruption> {
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

struct Draw(Xoshiro256PlusPlus);

impl Draw {
    fn milliseconds(&mut self, range: std::ops::Range<u64>) -> Duration {
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
            23 => (Action::HoldRows(self.0.random_range(1..4)), true),
            _ => (Action::RepeatCommands(self.0.random_range(1..200)), false),
        }
    }
}
