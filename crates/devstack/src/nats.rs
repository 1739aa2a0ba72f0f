//! The broker: one nats-server with JetStream, or a cluster of three, with the
//! accounts of [`permissions::broker_accounts`].

use std::{
    path::{Path, PathBuf},
    thread::available_parallelism,
};

use anyhow::{Result, ensure};
use contract::permissions;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    Secrets, faults::Network, launcher::Program, ports::Ports, private_file, servers::Found,
};

const NAME: &str = "nats";
const HOST: &str = "127.0.0.1";

/// How many nodes the broker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brokers {
    /// One, which keeps each stream once.
    Single,
    /// Three, which keep each stream three times, and have it on the disk
    /// before they acknowledge.
    Cluster,
}

/// The broker of one stack.
#[derive(Debug)]
pub(crate) struct Nats {
    nodes: Vec<Node>,
}

/// One server of it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Where its streams are.
    pub(crate) data: PathBuf,
    program: PathBuf,
    configuration: PathBuf,
    port: u16,
    monitor_port: u16,
    route_port: u16,
}

impl Nats {
    /// Writes the configuration of each node into the folder `dir`.
    ///
    /// # Errors
    /// When it can't be written, or there are no free ports.
    pub(crate) fn prepare(
        dir: &Path,
        found: &Found,
        secrets: &Secrets,
        brokers: Brokers,
        network: &mut Network,
        ports: &mut Ports,
    ) -> Result<Self> {
        let names = match brokers {
            Brokers::Single => vec![NAME.to_owned()],
            Brokers::Cluster => (0..3).map(|number| format!("{NAME}-{number}")).collect(),
        };
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(Node {
                data: dir.join(&name),
                configuration: dir.join(format!("{name}.conf")),
                name,
                program: found.program.clone(),
                port: ports.take()?,
                monitor_port: ports.take()?,
                route_port: ports.take()?,
            });
        }
        let password = credentials::random_password()?;
        for node in &nodes {
            let mut text = json!({
                "server_name": if nodes.len() > 1 { &node.name } else { "passbook" },
                "host": HOST,
                "port": node.port,
                "http": format!("{HOST}:{}", node.monitor_port),
                "jetstream": { "store_dir": node.data },
                "accounts": permissions::broker_accounts(|user| secrets.nats.of(user)),
            });
            if let (true, Some(settings)) = (nodes.len() > 1, text.as_object_mut()) {
                settings.insert("cluster".into(), node.cluster(&nodes, &password, network)?);
                settings.insert(
                    "jetstream".into(),
                    json!({ "store_dir": node.data, "sync_interval": "always" }),
                );
            }
            // The broker's own format takes JSON as it is.
            private_file::write(&node.configuration, format!("{text:#}\n").as_bytes())?;
        }
        Ok(Self { nodes })
    }

    /// Its nodes.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Where the process `from` connects: every node.
    ///
    /// # Errors
    /// When there is no free port for a link.
    pub(crate) fn urls(&self, network: &mut Network, from: &str) -> Result<String> {
        let mut urls = Vec::new();
        for node in &self.nodes {
            urls.push(format!("nats://{HOST}:{}", network.way(from, &node.name, node.port)?));
        }
        Ok(urls.join(","))
    }

    /// How many copies of a stream it keeps.
    pub(crate) fn stream_replicas(&self) -> usize {
        self.nodes.len()
    }

    /// Every node, with the credentials of the user that may do everything.
    pub(crate) fn admin_url(&self, secrets: &Secrets) -> String {
        let (user, password) = (permissions::OPERATOR, secrets.nats.of(permissions::OPERATOR));
        let url = |node: &Node| format!("nats://{user}:{password}@{HOST}:{}", node.port);
        self.nodes.iter().map(url).collect::<Vec<_>>().join(",")
    }

    /// The monitoring port, of the first node.
    pub(crate) fn monitor_url(&self) -> String {
        self.nodes.first().map(Node::monitor_url).unwrap_or_default()
    }
}

impl Node {
    /// The server, to be supervised.
    pub(crate) fn program(&self) -> Program {
        Program {
            name: self.name.clone(),
            path: self.program.clone(),
            arguments: vec!["--config".into(), self.configuration.clone().into_os_string()],
            environment: vec![("GOMAXPROCS", processors().to_string())],
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

    /// Its monitoring port.
    pub(crate) fn monitor_url(&self) -> String {
        format!("http://{HOST}:{}", self.monitor_port)
    }

    /// How it finds the others: over a link to each, and never otherwise, so
    /// that cutting the links cuts it off.
    fn cluster(&self, nodes: &[Self], password: &str, network: &mut Network) -> Result<Value> {
        let mut routes = Vec::new();
        for other in nodes.iter().filter(|other| other.name != self.name) {
            let port = network.way(&self.name, &other.name, other.route_port)?;
            routes.push(format!("nats://route:{password}@{HOST}:{port}"));
        }
        Ok(json!({
            "name": "passbook",
            "host": HOST,
            "port": self.route_port,
            "authorization": { "user": "route", "password": password },
            "routes": routes,
            // Clients know every node already, each over a link of its own.
            "no_advertise": true,
            // What the nodes tell each other of their addresses: nobody listens there.
            "advertise": format!("{HOST}:1"),
        }))
    }
}

/// Half of the machine's: the other half has the rest of the stack to run. With
/// all of them its threads wake each other up for every message.
fn processors() -> usize {
    available_parallelism().map_or(1, |all| (all.get() / 2).max(1))
}
