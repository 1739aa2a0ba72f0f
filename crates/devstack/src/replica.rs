//! The services' replicas as processes: program, ports and environment.

use std::path::Path;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use tracing::warn;

use crate::{
    faults::Network,
    inheritance,
    nats::Nats,
    ports::Ports,
    postgres::Postgres,
    secrets::{JWKS, Secrets},
    service::{Replicas, SERVICES, Service, StackParts},
    spawn::ProcessSpec,
};

/// The addresses from which the development proxy connects.
const PROXY: &str = "127.0.0.1,::1";
/// The sources of the keys of tokens.
const KEY_SOURCES: [&str; 2] = ["PASSBOOK_JWKS_URL", "PASSBOOK_JWKS_FILE"];

/// A replica to be started. After a restart, it has the same ports.
pub(crate) struct Replica {
    pub(crate) service: &'static Service,
    pub(crate) process: ProcessSpec,
    /// `<host>:<port>` of its API, if the service has one.
    pub(crate) http: Option<String>,
    /// `<host>:<port>` of its admin port.
    pub(crate) admin: String,
}

/// Builds the replicas from the parts of the stack they share.
pub(crate) struct ReplicaBuilder<'a> {
    pub(crate) postgres: &'a Postgres,
    pub(crate) nats: &'a Nats,
    pub(crate) secrets: &'a Secrets,
    /// The stack's folder.
    pub(crate) dir: &'a Path,
    /// The folder of the services' programs.
    pub(crate) programs: &'a Path,
    /// The folder for arming crash points.
    pub(crate) crash_points: Option<&'a Path>,
}

/// Checks that `folder` holds the program of every service with replicas.
///
/// # Errors
/// If a program was not built.
pub(crate) fn check_programs(folder: &Path, replicas: &Replicas) -> Result<()> {
    let release = if folder.ends_with("release") { " --release" } else { "" };
    for service in SERVICES.iter().filter(|service| replicas.of(service) > 0) {
        let program = folder.join(service.name);
        ensure!(
            program.is_file(),
            "{} is missing: build all programs with `cargo build --workspace{release}`",
            program.display()
        );
    }
    Ok(())
}

impl ReplicaBuilder<'_> {
    /// All replicas of all services.
    ///
    /// # Errors
    /// If there are no free ports, or a password is missing.
    pub(crate) fn build_all(
        &self,
        replicas: &Replicas,
        network: &mut Network,
        ports: &mut Ports,
    ) -> Result<Vec<Replica>> {
        let mut all = Vec::new();
        for service in SERVICES {
            if replicas.of(service) > 0 {
                warn_of_withheld(service);
            }
            for number in 0..replicas.of(service) {
                all.push(self.build(service, number, network, ports)?);
            }
        }
        Ok(all)
    }

    fn build(
        &self,
        service: &'static Service,
        number: u16,
        network: &mut Network,
        ports: &mut Ports,
    ) -> Result<Replica> {
        let name = format!("{}-{number}", service.name);
        let http = if service.has_api() { Some(address(ports)?) } else { None };
        let admin = address(ports)?;
        let mut environment = vec![("PASSBOOK_ADMIN_LISTEN", admin.clone())];
        if let Some(user) = service.broker_user {
            environment.extend([
                ("PASSBOOK_NATS_URL", self.nats.urls(network, &name)?),
                ("PASSBOOK_NATS_USER", user.to_owned()),
                ("PASSBOOK_NATS_PASSWORD", self.secrets.nats.of(user)?.to_owned()),
                ("PASSBOOK_STREAM_REPLICAS", self.nats.stream_replicas().to_string()),
            ]);
        }
        let postgres = self.postgres.as_seen_by(network, &name)?;
        let database_url = postgres.service_url(service.database, self.secrets)?;
        environment.push(("PASSBOOK_DATABASE_URL", database_url));
        if let Some(http) = &http {
            environment.push(("PASSBOOK_LISTEN", http.clone()));
            environment.push(("PASSBOOK_TRUSTED_PROXIES", PROXY.to_owned()));
            // The caller may name another issuer.
            if KEY_SOURCES.iter().all(|variable| std::env::var_os(variable).is_none()) {
                let keys = self.dir.join(JWKS).display().to_string();
                environment.push(("PASSBOOK_JWKS_FILE", keys));
            }
        }
        if let Some(folder) = self.crash_points {
            environment.push(("PASSBOOK_CRASH_POINTS", folder.display().to_string()));
        }
        if std::env::var_os("PASSBOOK_LOG_FORMAT").is_none() {
            environment.push(("PASSBOOK_LOG_FORMAT", "json".to_owned()));
        }
        let parts = StackParts { postgres: &postgres, secrets: self.secrets, dir: self.dir };
        environment.extend((service.environment)(parts)?);
        let process = ProcessSpec {
            name,
            program: self.programs.join(service.name),
            arguments: Vec::new(),
            environment,
            inherited_prefixes: service.inherited_prefixes,
            user: None,
            stop_signal: Signal::SIGTERM,
        };
        Ok(Replica { service, process, http, admin })
    }
}

/// The values are not shown: they can be secrets.
fn warn_of_withheld(service: &Service) {
    for variable in inheritance::withheld(service.inherited_prefixes) {
        warn!(
            "{variable} is not passed to the {}: it may name a part of another system",
            service.name
        );
    }
}

fn address(ports: &mut Ports) -> Result<String> {
    Ok(format!("{}:{}", ports.host(), ports.take()?))
}
