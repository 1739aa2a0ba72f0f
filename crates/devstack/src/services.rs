//! Passbook's own services as processes: their programs, their ports, and
//! the environment that configures them.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::{
    Secrets, faults::Network, launcher::Program, nats::Nats, ports::Ports, postgres::Postgres,
    supervised::Supervised,
};

const HOST: &str = "127.0.0.1";
const ACCOUNT: &str = "account-service";
const TRANSACTION: &str = "transaction-service";

/// How many replicas of each service to start.
#[derive(Debug, Clone, Copy)]
pub struct Replicas {
    /// Of the account-service.
    pub account: u16,
    /// Of the transaction-service.
    pub transaction: u16,
}

/// What the services share and connect to.
pub(crate) struct Surroundings<'a> {
    pub(crate) postgres: &'a Postgres,
    pub(crate) nats: &'a Nats,
    pub(crate) secrets: &'a Secrets,
    /// Where their crash points are armed, if they have any.
    pub(crate) crash_points: Option<&'a Path>,
}

/// A replica to start, or one that runs.
pub(crate) struct Service {
    pub(crate) program: Program,
    /// `127.0.0.1:<port>` of its API, if it has one.
    pub(crate) http: Option<String>,
    /// `127.0.0.1:<port>` of its admin port.
    pub(crate) admin: String,
}

/// A service's replica that is kept running.
pub(crate) struct RunningService {
    pub(crate) process: Supervised,
    pub(crate) http: Option<String>,
    pub(crate) admin: String,
}

/// All replicas, with ports of their own that they keep when they are started
/// again.
///
/// # Errors
/// When a program was not built, or there are no free ports.
pub(crate) fn services(
    replicas: Replicas,
    programs: &Programs,
    surroundings: &Surroundings<'_>,
    network: &mut Network,
    ports: &mut Ports,
) -> Result<Vec<Service>> {
    let key = surroundings.secrets.signing_key()?.public_key_pem();
    let mut services = Vec::new();
    for number in 0..replicas.account {
        let (http, admin) = (address(ports)?, address(ports)?);
        let name = format!("{ACCOUNT}-{number}");
        let user = (ACCOUNT, surroundings.secrets.nats.account_service.as_str());
        let mut environment = surroundings.environment(&name, user, &admin, network)?;
        let database = surroundings.postgres.way(network, &name)?;
        let database = database.service_urls(surroundings.secrets).account;
        environment.push(("PASSBOOK_DATABASE_URL", database));
        environment.push(("PASSBOOK_LISTEN", http.clone()));
        // The front sees within 200 ms that a replica is not ready.
        environment.push(("PASSBOOK_DRAIN_DELAY", "1s".to_owned()));
        environment.push(("PASSBOOK_JWT_PUBLIC_KEY", key.clone()));
        let program = program(name, &programs.account, environment);
        services.push(Service { program, http: Some(http), admin });
    }
    for number in 0..replicas.transaction {
        let admin = address(ports)?;
        let name = format!("{TRANSACTION}-{number}");
        let user = (TRANSACTION, surroundings.secrets.nats.transaction_service.as_str());
        let mut environment = surroundings.environment(&name, user, &admin, network)?;
        let database = surroundings.postgres.way(network, &name)?;
        let database = database.service_urls(surroundings.secrets).transaction;
        environment.push(("PASSBOOK_DATABASE_URL", database));
        let program = program(name, &programs.transaction, environment);
        services.push(Service { program, http: None, admin });
    }
    Ok(services)
}

fn address(ports: &mut Ports) -> Result<String> {
    Ok(format!("{HOST}:{}", ports.take()?))
}

fn program(name: String, path: &Path, environment: Vec<(&'static str, String)>) -> Program {
    Program {
        name,
        path: path.to_owned(),
        arguments: Vec::new(),
        environment,
        user: None,
        signal: Signal::SIGTERM,
    }
}

impl Surroundings<'_> {
    /// What any service is told; its database is its own.
    fn environment(
        &self,
        name: &str,
        (nats_user, nats_password): (&str, &str),
        admin: &str,
        network: &mut Network,
    ) -> Result<Vec<(&'static str, String)>> {
        let mut environment = vec![
            ("PASSBOOK_NATS_URL", self.nats.urls(network, name)?),
            ("PASSBOOK_NATS_USER", nats_user.to_owned()),
            ("PASSBOOK_NATS_PASSWORD", nats_password.to_owned()),
            ("PASSBOOK_STREAM_REPLICAS", self.nats.stream_replicas().to_string()),
            ("PASSBOOK_ADMIN_LISTEN", admin.to_owned()),
        ];
        if let Some(folder) = self.crash_points {
            environment.push(("PASSBOOK_CRASH_POINTS", folder.display().to_string()));
        }
        if std::env::var_os("PASSBOOK_LOG_FORMAT").is_none() {
            environment.push(("PASSBOOK_LOG_FORMAT", "json".to_owned()));
        }
        Ok(environment)
    }
}

/// The services' programs.
#[derive(Debug)]
pub(crate) struct Programs {
    account: PathBuf,
    transaction: PathBuf,
}

impl Programs {
    /// The programs that lie in `folder`.
    ///
    /// # Errors
    /// When one that a replica is wanted of was not built.
    pub(crate) fn of(folder: &Path, replicas: Replicas) -> Result<Self> {
        let release = if folder.ends_with("release") { " --release" } else { "" };
        let program = |name: &str, replicas: u16| {
            let path = folder.join(name);
            ensure!(
                replicas == 0 || path.is_file(),
                "{} is missing: build it, and all the others, with `cargo build --workspace{release}`",
                path.display()
            );
            Ok(path)
        };
        Ok(Self {
            account: program(ACCOUNT, replicas.account)?,
            transaction: program(TRANSACTION, replicas.transaction)?,
        })
    }
}
