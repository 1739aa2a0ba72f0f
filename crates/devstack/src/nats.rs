//! The broker: one nats-server with JetStream, and a user for each service
//! that may do what that service does and nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use contract::{
    CONSUMERS, ConsumerSpec, DEAD_LETTER, STREAMS, TRANSACTION, TRANSACTION_RESULT, USED_UP,
    consumers, subjects,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{Secrets, launcher::Program, private_file, servers::Found};

const HOST: &str = "127.0.0.1";

/// The broker of one stack.
#[derive(Debug)]
pub(crate) struct Nats {
    program: PathBuf,
    configuration: PathBuf,
    port: u16,
    monitor_port: u16,
}

impl Nats {
    /// Writes the broker's configuration into the folder `dir`.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn prepare(
        dir: &Path,
        found: &Found,
        secrets: &Secrets,
        port: u16,
        monitor_port: u16,
    ) -> Result<Self> {
        let configuration = dir.join("nats.conf");
        let text = json!({
            "server_name": "passbook",
            "host": HOST,
            "port": port,
            "http": format!("{HOST}:{monitor_port}"),
            "jetstream": { "store_dir": dir.join("nats") },
            "authorization": { "users": users(secrets) },
        });
        // The broker's own format takes JSON as it is.
        private_file::write(&configuration, format!("{text:#}\n").as_bytes())?;
        Ok(Self { program: found.program.clone(), configuration, port, monitor_port })
    }

    /// The server, to be supervised.
    pub(crate) fn program(&self) -> Program {
        Program {
            name: "nats".to_owned(),
            path: self.program.clone(),
            arguments: vec!["--config".into(), self.configuration.clone().into_os_string()],
            environment: Vec::new(),
            user: None,
            signal: Signal::SIGTERM,
        }
    }

    /// Whether the server and its streams are up.
    pub(crate) async fn probe(&self, http: &reqwest::Client) -> Result<()> {
        let status = http.get(format!("{}/healthz", self.monitor_url())).send().await?.status();
        ensure!(status.is_success(), "its /healthz answers {status}");
        Ok(())
    }

    /// Where services connect.
    pub(crate) fn url(&self) -> String {
        format!("nats://{HOST}:{}", self.port)
    }

    /// The same with the credentials of the user that may do everything.
    pub(crate) fn admin_url(&self, secrets: &Secrets) -> String {
        format!("nats://passbook:{}@{HOST}:{}", secrets.nats.passbook, self.port)
    }

    /// The monitoring port.
    pub(crate) fn monitor_url(&self) -> String {
        format!("http://{HOST}:{}", self.monitor_port)
    }
}

fn users(secrets: &Secrets) -> Value {
    json!([
        { "user": "passbook", "password": secrets.nats.passbook },
        {
            "user": "account-service",
            "password": secrets.nats.account_service,
            "permissions": {
                "publish": publish(
                    &[subjects::DEPOSIT, subjects::WITHDRAWAL, subjects::SETTLED],
                    TRANSACTION_RESULT,
                    &[consumers::ACCOUNT_RESULT, consumers::RESULTS_USED_UP],
                ),
                "subscribe": ["_INBOX_account.>", subjects::SETTLED],
            },
        },
        {
            "user": "transaction-service",
            "password": secrets.nats.transaction_service,
            "permissions": {
                "publish": publish(
                    &[subjects::RESULT_DEPOSIT, subjects::RESULT_WITHDRAWAL],
                    TRANSACTION,
                    &[consumers::DEPOSIT, consumers::WITHDRAWAL, consumers::COMMANDS_USED_UP],
                ),
                "subscribe": ["_INBOX_transaction.>"],
            },
        },
    ])
}

/// What a service publishes: its messages, the dead letters of the stream it
/// reads, and the requests by which it sets up the streams and reads that one
/// through its own consumers.
fn publish(messages: &[&str], reads: &str, through: &[&str]) -> Vec<String> {
    let mut allowed: Vec<String> = messages.iter().map(|&subject| subject.to_owned()).collect();
    allowed.push(format!("{}.{reads}.>", subjects::DEAD_LETTER_PREFIX));
    allowed.push(format!("{}.{USED_UP}.>", subjects::DEAD_LETTER_PREFIX));
    allowed.push("$JS.API.INFO".to_owned());
    let set_up = [TRANSACTION, TRANSACTION_RESULT, DEAD_LETTER, USED_UP];
    for stream in STREAMS.iter().filter(|stream| set_up.contains(&stream.name)) {
        for request in ["CREATE", "UPDATE", "INFO"] {
            allowed.push(format!("$JS.API.STREAM.{request}.{}", stream.name));
        }
    }
    // A message whose deliveries are used up is looked up, and deleted once it is a dead letter.
    allowed.push(format!("$JS.API.STREAM.MSG.GET.{reads}"));
    allowed.push(format!("$JS.API.STREAM.MSG.DELETE.{reads}"));
    let own = |consumer: &&ConsumerSpec| through.contains(&consumer.name);
    for ConsumerSpec { stream, name, .. } in CONSUMERS.iter().filter(own) {
        let consumer = format!("{stream}.{name}");
        allowed.extend([
            format!("$JS.API.CONSUMER.CREATE.{consumer}"),
            format!("$JS.API.CONSUMER.CREATE.{consumer}.>"),
            format!("$JS.API.CONSUMER.DURABLE.CREATE.{consumer}"),
            format!("$JS.API.CONSUMER.INFO.{consumer}"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}"),
            // Acks come in two forms: the second names domain and account.
            format!("$JS.ACK.{consumer}.>"),
            format!("$JS.ACK.*.*.{consumer}.>"),
        ]);
    }
    allowed
}
