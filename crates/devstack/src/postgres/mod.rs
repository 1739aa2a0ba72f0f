//! PostgreSQL: one server for all services, with a database and a role for
//! each, as production gives each service a database of its own. Durability
//! is left as it ships: a test that passes with `fsync` off proves little.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sqlx::{Connection, PgConnection};

use crate::{
    Databases, Secrets,
    faults::Network,
    initdb,
    launcher::{Launcher, Program},
    postgres_home::Home,
    servers::Found,
};

const NAME: &str = "postgres";
const HOST: &str = "127.0.0.1";
/// The superuser.
const ADMIN: &str = "passbook";

/// The server of one stack.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    home: Home,
    port: u16,
}

fn url(role: &str, password: &str, port: u16, database: &str) -> String {
    // It listens on this machine only and has no certificate: no time is lost
    // by asking for TLS.
    format!("postgres://{role}:{password}@{HOST}:{port}/{database}?sslmode=disable")
}

impl Postgres {
    /// Initializes the data of the stack in `dir`, if there is none yet.
    ///
    /// # Errors
    /// When the data was written by another major version or can't be made.
    pub(crate) async fn prepare(
        launcher: &Launcher,
        dir: &Path,
        found: &Found,
        secrets: &Secrets,
        port: u16,
    ) -> Result<Self> {
        let home = Home::find(dir, found, secrets).await?;
        match fs::read_to_string(home.data.join("PG_VERSION")) {
            Ok(written) => ensure!(
                written.trim() == found.version.0.to_string(),
                "the data in {} was written by PostgreSQL {written}, but the one found here is \
                 {}: set PASSBOOK_POSTGRES_BIN to the folder of a PostgreSQL {written}, or remove \
                 the data by `passbook dev down --remove-data --dir {}`",
                home.data.display(),
                found.version,
                dir.display(),
                written = written.trim(),
            ),
            Err(_) if !home.data.exists() => {
                initdb::run(launcher, &home, ADMIN, &secrets.postgres.passbook).await?
            }
            Err(error) => return Err(error).with_context(|| home.data.display().to_string()),
        }
        Ok(Self { home, port })
    }

    /// The server as the process `from` reaches it.
    ///
    /// # Errors
    /// When there is no free port for a link.
    pub(crate) fn way(&self, network: &mut Network, from: &str) -> Result<Self> {
        Ok(Self { port: network.way(from, NAME, self.port)?, ..self.clone() })
    }

    /// The server, to be supervised.
    pub(crate) fn program(&self) -> Program {
        let mut arguments = vec!["-D".into(), self.home.data.clone().into_os_string()];
        for setting in [
            format!("listen_addresses={HOST}"),
            format!("port={}", self.port),
            // Its path could be too long for a socket, and nobody needs one.
            "unix_socket_directories=".to_owned(),
            "max_connections=200".to_owned(),
            // Taken as it is used. The indexes of some million rows do not fit into the default.
            "shared_buffers=512MB".to_owned(),
        ] {
            arguments.extend(["-c".into(), setting.into()]);
        }
        Program {
            name: NAME.to_owned(),
            path: self.home.bin.join("postgres"),
            arguments,
            environment: Vec::new(),
            user: self.home.user,
            // A fast shutdown: sessions are cut off, nothing is lost.
            signal: Signal::SIGINT,
        }
    }

    /// Whether the server takes connections.
    pub(crate) async fn probe(&self, secrets: &Secrets) -> Result<()> {
        let url = url(ADMIN, &secrets.postgres.passbook, self.port, "postgres");
        Ok(PgConnection::connect(&url).await?.close().await?)
    }

    /// What `passbook provision` has to know.
    pub(crate) fn provision(&self, secrets: &Secrets) -> Vec<(&'static str, String)> {
        let passwords = &secrets.postgres;
        vec![
            ("PASSBOOK_POSTGRES_URL", url(ADMIN, &passwords.passbook, self.port, "postgres")),
            ("PASSBOOK_ACCOUNT_SERVICE_PASSWORD", passwords.account_service.clone()),
            ("PASSBOOK_TRANSACTION_SERVICE_PASSWORD", passwords.transaction_service.clone()),
            ("PASSBOOK_REPORT_SERVICE_PASSWORD", passwords.report_service.clone()),
            ("PASSBOOK_AUDITOR_PASSWORD", passwords.auditor.clone()),
        ]
    }

    /// URLs of the databases, as superuser.
    pub(crate) fn admin_urls(&self, secrets: &Secrets) -> Databases {
        let url = |database| url(ADMIN, &secrets.postgres.passbook, self.port, database);
        Databases {
            account: url("account"),
            transaction: url("transaction"),
            report: url("report"),
        }
    }

    /// URLs of the databases, each as the role of its service.
    pub(crate) fn service_urls(&self, secrets: &Secrets) -> Databases {
        let url = |role, password: &String, database| url(role, password, self.port, database);
        let passwords = &secrets.postgres;
        Databases {
            account: url("account_service", &passwords.account_service, "account"),
            transaction: url("transaction_service", &passwords.transaction_service, "transaction"),
            report: url("report_service", &passwords.report_service, "report"),
        }
    }
}
