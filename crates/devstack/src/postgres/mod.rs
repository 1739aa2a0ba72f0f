//! PostgreSQL: one server for all services, with a database and a role for
//! each. In production, too, each service has its own database. Durability is
//! left on, because a test with `fsync` off would prove little.

mod initdb;
mod layout;
mod unprivileged_user;

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sqlx::{Connection, PgConnection};

use crate::{
    database::{self, DATABASES, Database, LEDGER_READER, REPORT_READER, SERVICE_ROLES},
    faults::Network,
    ports::Loopback,
    secrets::{SUPERUSER, Secrets},
    server_search::ServerBinary,
    spawn::{ProcessSpec, Spawner},
    stack_dir::shell_argument,
    stack_file::Databases,
};
use layout::Layout;
pub(crate) use layout::{fallback_dir, remove_data};
pub(crate) use unprivileged_user::SEARCHABLE;

const NAME: &str = "postgres";

/// The server of one stack.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    layout: Layout,
    host: Loopback,
    port: u16,
}

impl Postgres {
    /// Finds the data of the stack in `dir`, and initializes it if there is
    /// none.
    ///
    /// # Errors
    /// If another major version wrote the data, or `initdb` fails.
    pub(crate) async fn prepare(
        spawner: &Spawner,
        dir: &Path,
        binary: &ServerBinary,
        secrets: &Secrets,
        (host, port): (Loopback, u16),
    ) -> Result<Self> {
        let layout = Layout::find(dir, binary, secrets).await?;
        match fs::read_to_string(layout.data.join("PG_VERSION")) {
            Ok(version) => ensure!(
                version.trim() == binary.version.0.to_string(),
                "the data in {} was written by PostgreSQL {version}, but the PostgreSQL found here \
                 is {}: set PASSBOOK_POSTGRES_BIN to the folder of a PostgreSQL {version}, or \
                 remove the data with `passbook dev down --remove-data --dir {}`",
                layout.data.display(),
                binary.version,
                shell_argument(dir),
                version = version.trim(),
            ),
            Err(_) if !layout.data.exists() => {
                initdb::run(spawner, &layout, SUPERUSER, secrets.superuser_password()?).await?
            }
            Err(error) => return Err(error).with_context(|| layout.data.display().to_string()),
        }
        Ok(Self { layout, host, port })
    }

    /// The server as the process `client` reaches it.
    ///
    /// # Errors
    /// If there is no free port for a link.
    pub(crate) fn as_seen_by(&self, network: &mut Network, client: &str) -> Result<Self> {
        Ok(Self { port: network.connect(client, NAME, self.port)?, ..self.clone() })
    }

    pub(crate) fn process(&self) -> ProcessSpec {
        let mut arguments = vec!["-D".into(), self.layout.data.clone().into_os_string()];
        for setting in [
            format!("listen_addresses={}", self.host.ip()),
            format!("port={}", self.port),
            // No Unix socket: its path could be too long, and no process uses it.
            "unix_socket_directories=".to_owned(),
            "max_connections=200".to_owned(),
            // Memory is allocated as it is used. The indexes of some million rows do not fit into
            // the default.
            "shared_buffers=512MB".to_owned(),
        ] {
            arguments.extend(["-c".into(), setting.into()]);
        }
        ProcessSpec {
            name: NAME.to_owned(),
            program: self.layout.bin.join("postgres"),
            arguments,
            environment: Vec::new(),
            inherited_prefixes: &[],
            user: self.layout.user,
            // Fast shutdown: sessions are terminated, no committed data is lost.
            stop_signal: Signal::SIGINT,
        }
    }

    /// Checks that the server accepts connections.
    ///
    /// # Errors
    /// If it does not, or the superuser's password is missing.
    pub(crate) async fn probe(&self, secrets: &Secrets) -> Result<()> {
        let url = self.superuser_url("postgres", secrets)?;
        Ok(PgConnection::connect(&url).await?.close().await?)
    }

    /// The environment of `passbook provision`.
    ///
    /// # Errors
    /// If a password is missing.
    pub(crate) fn provision(&self, secrets: &Secrets) -> Result<Vec<(&'static str, String)>> {
        let mut environment = vec![
            ("PASSBOOK_POSTGRES_URL", self.superuser_url("postgres", secrets)?),
            ("PASSBOOK_AUDITOR_PASSWORD", secrets.auditor_password()?.to_owned()),
            ("PASSBOOK_REPORT_READER_PASSWORD", secrets.postgres.of(REPORT_READER)?.to_owned()),
            ("PASSBOOK_LEDGER_READER_PASSWORD", secrets.postgres.of(LEDGER_READER)?.to_owned()),
        ];
        for database in SERVICE_ROLES {
            let password = secrets.postgres.of(database.role)?;
            environment.push((database.password_variable, password.to_owned()));
        }
        Ok(environment)
    }

    /// The environment of `passbook migrate`.
    ///
    /// # Errors
    /// If the superuser's password is missing.
    pub(crate) fn migrate(&self, secrets: &Secrets) -> Result<Vec<(&'static str, String)>> {
        let variable = |database: &Database| {
            Ok((database.url_variable, self.superuser_url(database.name, secrets)?))
        };
        DATABASES.into_iter().map(variable).collect()
    }

    /// URLs of the databases, with the superuser's credentials.
    ///
    /// # Errors
    /// If the superuser's password is missing.
    pub(crate) fn admin_urls(&self, secrets: &Secrets) -> Result<Databases> {
        Ok(Databases {
            account: self.superuser_url(database::ACCOUNT.name, secrets)?,
            transaction: self.superuser_url(database::TRANSACTION.name, secrets)?,
            report: self.superuser_url(database::REPORT.name, secrets)?,
        })
    }

    /// URL of a database, with the credentials of its service's role.
    ///
    /// # Errors
    /// If the role's password is missing.
    pub(crate) fn service_url(&self, database: &Database, secrets: &Secrets) -> Result<String> {
        Ok(self.url(database.role, secrets.postgres.of(database.role)?, database.name))
    }

    /// URL of a database, with the credentials of the role that reads the
    /// figures of reports.
    ///
    /// # Errors
    /// If the role's password is missing.
    pub(crate) fn report_reader_url(
        &self,
        database: &Database,
        secrets: &Secrets,
    ) -> Result<String> {
        Ok(self.url(REPORT_READER, secrets.postgres.of(REPORT_READER)?, database.name))
    }

    /// URL of the ledger, with the credentials of the account-service's reader.
    ///
    /// # Errors
    /// If the role's password is missing.
    pub(crate) fn ledger_reader_url(&self, secrets: &Secrets) -> Result<String> {
        let password = secrets.postgres.of(LEDGER_READER)?;
        Ok(self.url(LEDGER_READER, password, database::TRANSACTION.name))
    }

    fn superuser_url(&self, database: &str, secrets: &Secrets) -> Result<String> {
        let url = self.url(SUPERUSER, secrets.superuser_password()?, database);
        // The tools of the stack give the URL to sqlx, which takes no brackets.
        Ok(match self.host {
            Loopback::V4 => url,
            Loopback::V6 => format!("{url}&host={}", self.host.ip()),
        })
    }

    fn url(&self, role: &str, password: &str, database: &str) -> String {
        // The server listens on this machine only and has no certificate: asking for TLS would
        // waste a round trip.
        format!(
            "postgres://{role}:{password}@{}:{}/{database}?sslmode=disable",
            self.host, self.port
        )
    }
}
