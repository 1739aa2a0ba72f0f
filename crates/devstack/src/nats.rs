//! The broker: one nats-server with JetStream, or a cluster of three. Its
//! accounts are those of [`permissions::broker_accounts`].

use std::{
    path::{Path, PathBuf},
    thread::available_parallelism,
};

use anyhow::{Context, Result, ensure};
use contract::{STREAM_STORAGE_VARIABLE, StreamStorage, Topology, permissions};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    faults::Network,
    ports::{Loopback, Ports},
    private_file,
    secrets::Secrets,
    server_search::ServerBinary,
    spawn::ProcessSpec,
};

const NAME: &str = "nats";

/// Number of the broker's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brokers {
    /// One node, with one copy of each stream.
    Single,
    /// Three nodes, each with a copy of each stream. Messages are on disk
    /// before they are acknowledged.
    Cluster,
}

/// The broker of one stack.
#[derive(Debug)]
pub(crate) struct Nats {
    nodes: Vec<Node>,
}

/// One server of the broker.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    host: Loopback,
    /// The folder of its streams.
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
    /// If the file can't be written, a password is missing, the storage of the streams is
    /// invalid, or there are no free ports.
    pub(crate) fn prepare(
        dir: &Path,
        binary: &ServerBinary,
        secrets: &Secrets,
        topology: &Topology,
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
                host: ports.host(),
                program: binary.program.clone(),
                port: ports.take()?,
                monitor_port: ports.take()?,
                route_port: ports.take()?,
            });
        }
        let max_file_store = max_file_store(stream_storage()?);
        let route_password = credentials::random_password()?;
        let accounts = permissions::broker_accounts(topology, |user| {
            secrets.nats.of(user).map(str::to_owned)
        })?;
        for node in &nodes {
            let mut text = json!({
                "server_name": if nodes.len() > 1 { &node.name } else { "passbook" },
                "host": node.host.ip(),
                "port": node.port,
                "http": format!("{}:{}", node.host, node.monitor_port),
                "jetstream": { "store_dir": node.data, "max_file_store": max_file_store },
                "accounts": accounts,
            });
            if let (true, Some(settings)) = (nodes.len() > 1, text.as_object_mut()) {
                settings.insert("cluster".into(), node.cluster(&nodes, &route_password, network)?);
                if let Some(jetstream) =
                    settings.get_mut("jetstream").and_then(Value::as_object_mut)
                {
                    jetstream.insert("sync_interval".into(), "always".into());
                }
            }
            // nats-server's configuration format is a superset of JSON.
            private_file::write(&node.configuration, format!("{text:#}\n").as_bytes())?;
        }
        Ok(Self { nodes })
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The URLs of all nodes, comma-separated, as the process `client`
    /// reaches them.
    ///
    /// # Errors
    /// If there is no free port for a link.
    pub(crate) fn urls(&self, network: &mut Network, client: &str) -> Result<String> {
        let mut urls = Vec::new();
        for node in &self.nodes {
            let port = network.connect(client, &node.name, node.port)?;
            urls.push(format!("nats://{}:{port}", node.host));
        }
        Ok(urls.join(","))
    }

    /// Number of copies of each stream.
    pub(crate) fn stream_replicas(&self) -> usize {
        self.nodes.len()
    }

    /// The URLs of all nodes, comma-separated, with the operator's credentials.
    ///
    /// # Errors
    /// If the operator's password is missing.
    pub(crate) fn admin_url(&self, secrets: &Secrets) -> Result<String> {
        let (user, password) = (permissions::OPERATOR, secrets.nats.of(permissions::OPERATOR)?);
        let url = |node: &Node| format!("nats://{user}:{password}@{}:{}", node.host, node.port);
        Ok(self.nodes.iter().map(url).collect::<Vec<_>>().join(","))
    }

    /// The URL of the first node's monitoring port.
    pub(crate) fn monitor_url(&self) -> String {
        self.nodes.first().map(Node::monitor_url).unwrap_or_default()
    }
}

impl Node {
    pub(crate) fn process(&self) -> ProcessSpec {
        ProcessSpec {
            name: self.name.clone(),
            program: self.program.clone(),
            arguments: vec!["--config".into(), self.configuration.clone().into_os_string()],
            environment: vec![("GOMAXPROCS", processors().to_string())],
            inherited_prefixes: &[],
            user: None,
            stop_signal: Signal::SIGTERM,
        }
    }

    /// Checks that the server is healthy, JetStream included.
    ///
    /// # Errors
    /// If it does not answer, or not with success.
    pub(crate) async fn probe(&self, http: &reqwest::Client) -> Result<()> {
        let status = http.get(format!("{}/healthz", self.monitor_url())).send().await?.status();
        ensure!(status.is_success(), "/healthz answered {status}");
        Ok(())
    }

    /// The URL of its monitoring port.
    pub(crate) fn monitor_url(&self) -> String {
        format!("http://{}:{}", self.host, self.monitor_port)
    }

    /// The cluster settings. A node reaches each other node over a link and in
    /// no other way, so that cutting the links isolates the node.
    ///
    /// A node without a store takes the number of routes for the number of nodes. So its own
    /// address is one of them, as in the manifests. Without it, two such nodes begin anew, and
    /// the third never joins them.
    fn cluster(&self, nodes: &[Self], password: &str, network: &mut Network) -> Result<Value> {
        let mut routes = Vec::new();
        for node in nodes {
            let port = if node.name == self.name {
                self.route_port
            } else {
                network.connect(&self.name, &node.name, node.route_port)?
            };
            routes.push(format!("nats://route:{password}@{}:{port}", self.host));
        }
        Ok(json!({
            "name": "passbook",
            "host": self.host.ip(),
            "port": self.route_port,
            "authorization": { "user": "route", "password": password },
            "routes": routes,
            // Clients know every node already, each over its own link.
            "no_advertise": true,
            // The address advertised to other nodes leads nowhere: they use their links.
            "advertise": format!("{}:1", self.host),
        }))
    }
}

/// The storage of the streams, which the services inherit from the caller's environment.
///
/// # Errors
/// If the setting is invalid.
pub(crate) fn stream_storage() -> Result<StreamStorage> {
    std::env::var(STREAM_STORAGE_VARIABLE).map_or(Ok(StreamStorage::DEFAULT), |text| {
        StreamStorage::parse(&text).context(STREAM_STORAGE_VARIABLE)
    })
}

/// The storage of a node: that of the streams, and an eighth more, as in the manifests. Without
/// the setting, it would depend on the free space of this machine.
fn max_file_store(storage: StreamStorage) -> u64 {
    storage.bytes() + storage.bytes() / 8
}

/// Half of the machine's processors: the rest of the stack needs the others.
/// With all of them, the threads of nats-server wake each other up for every
/// message.
fn processors() -> usize {
    available_parallelism().map_or(1, |all| (all.get() / 2).max(1))
}
