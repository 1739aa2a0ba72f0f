//! What goes wrong and when: drawn from a seed, so that it can be drawn again.

use std::{fmt, time::Duration};

use devstack::Fault;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::IndexedRandom};

/// Between the beginnings of two troubles.
const PAUSE_MILLISECONDS: std::ops::Range<u64> = 300..3000;
/// How long a trouble lasts that does not end by itself.
const LASTS_MILLISECONDS: std::ops::Range<u64> = 500..8000;

/// One thing that goes wrong.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// When, after the beginning.
    pub at: Duration,
    /// What.
    pub what: What,
    /// For how long, if it does not end by itself.
    pub lasts: Option<Duration>,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum What {
    /// A fault of processes or links, and what undoes it.
    Fault { on: String, fault: Fault, undo: Option<Fault> },
    /// A stream is deleted.
    DeleteStream(&'static str),
    /// A stream loses its messages.
    Purge(&'static str),
    /// A consumer is deleted.
    DeleteConsumer(&'static str, &'static str),
    /// A stream's leader has to go.
    StepDown(&'static str),
    /// Every connection that PostgreSQL has to give is taken, and the
    /// services' are cut.
    NoConnections,
    /// Somebody publishes what no one of ours wrote.
    Poison(u16),
    /// Somebody publishes results that nobody decided.
    Forge(u16),
    /// Commands that were sent before are sent again.
    Repeat(u16),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Fault { on, fault, .. } => {
                write!(f, "{} {on}", format!("{fault:?}").to_lowercase())?;
            }
            What::DeleteStream(stream) => write!(f, "delete stream {stream}")?,
            What::Purge(stream) => write!(f, "purge stream {stream}")?,
            What::DeleteConsumer(_, consumer) => write!(f, "delete consumer {consumer}")?,
            What::StepDown(stream) => write!(f, "step down leader of {stream}")?,
            What::NoConnections => write!(f, "postgres out of connections")?,
            What::Poison(count) => write!(f, "publish {count} poison messages")?,
            What::Forge(count) => write!(f, "publish {count} forged results")?,
            What::Repeat(count) => write!(f, "publish {count} old commands again")?,
        }
        match self.lasts {
            Some(lasts) => write!(f, " for {:.1} s", lasts.as_secs_f64()),
            None => Ok(()),
        }
    }
}

/// The troubles of a seed, in order of time.
#[must_use]
pub fn plan(seed: u64, length: Duration, cluster: bool) -> Vec<Trouble> {
    let mut draw = Draw(Xoshiro256PlusPlus::seed_from_u64(seed));
    let mut troubles = Vec::new();
    let mut at = draw.milliseconds(PAUSE_MILLISECONDS);
    while at < length {
        let (what, lasts) = draw.trouble(cluster);
        let lasts = lasts.then(|| draw.milliseconds(LASTS_MILLISECONDS));
        troubles.push(Trouble { at, what, lasts });
        at += draw.milliseconds(PAUSE_MILLISECONDS);
    }
    troubles
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

    /// What goes wrong, and whether it has to be ended.
    fn trouble(&mut self, cluster: bool) -> (What, bool) {
        const STREAMS: [&str; 3] = ["TRANSACTION", "TRANSACTION_RESULT", "USED_UP"];
        const CONSUMERS: [(&str, &str); 5] = [
            ("TRANSACTION", "deposit-consumer"),
            ("TRANSACTION", "withdrawal-consumer"),
            ("TRANSACTION_RESULT", "account-result-consumer"),
            ("USED_UP", "commands-used-up-consumer"),
            ("USED_UP", "results-used-up-consumer"),
        ];
        let fault = |on: String, fault, undo: Option<Fault>| {
            (What::Fault { on, fault, undo }, undo.is_some())
        };
        match self.0.random_range(0..24_u8) {
            0..=2 => fault(self.service(), Fault::Kill, None),
            3 => fault(self.service(), Fault::Terminate, None),
            4..=5 => fault(self.service(), Fault::Freeze, Some(Fault::Thaw)),
            6 => fault(self.service(), Fault::Hold, Some(Fault::Release)),
            7..=8 => fault(self.broker(cluster), Fault::Kill, None),
            9 => fault(self.broker(cluster), Fault::Hold, Some(Fault::Release)),
            10 => fault(self.broker(cluster), Fault::Wipe, None),
            11 if cluster => {
                // Cut off from the others, and not from its clients.
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
                let wrong = self.one(&[
                    Fault::Refuse,
                    Fault::Silence,
                    Fault::Delay(milliseconds),
                    Fault::Throttle(bytes),
                    Fault::Cut,
                ]);
                let undo = (wrong != Fault::Cut).then_some(Fault::Pass);
                fault(format!("{service}/{server}"), wrong, undo)
            }
            19 => (What::DeleteStream(self.one(&STREAMS)), false),
            20 => match self.0.random_range(0..3_u8) {
                0 if cluster => (What::StepDown(self.one(&STREAMS)), false),
                0..=1 => (What::Purge(self.one(&STREAMS)), false),
                _ => (What::NoConnections, true),
            },
            21 => {
                let (stream, consumer) = self.one(&CONSUMERS);
                (What::DeleteConsumer(stream, consumer), false)
            }
            22 => match self.0.random_range(0..2_u8) {
                0 => (What::Poison(self.0.random_range(1..200)), false),
                _ => (What::Forge(self.0.random_range(1..50)), false),
            },
            _ => (What::Repeat(self.0.random_range(1..200)), false),
        }
    }
}
