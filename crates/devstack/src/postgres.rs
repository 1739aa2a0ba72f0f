//! PostgreSQL: one server for all services, with a database and a role for
//! each, as production gives each service a database of its own. Durability
//! is left as it ships: a test that passes with `fsync` off proves little.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

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

/// A service's database, and the role it connects as.
struct Tenant<'a> {
    database: &'static str,
    role: &'static str,
    password: &'a str,
}

fn tenants(secrets: &Secrets) -> [Tenant<'_>; 3] {
    let passwords = &secrets.postgres;
    [
        Tenant {
            database: "account",
            role: "account_service",
            password: &passwords.account_service,
        },
        Tenant {
            database: "transaction",
            role: "transaction_service",
            password: &passwords.transaction_service,
        },
        Tenant { database: "report", role: "report_service", password: &passwords.report_service },
    ]
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
        let connection = self.connect(secrets, "postgres").await?;
        Ok(connection.close().await?)
    }

    /// Creates the databases and roles that are missing. A service may read
    /// and write rows in its own database, and neither delete them, nor
    /// change tables, nor connect to another service's.
    ///
    /// # Errors
    /// When a statement fails.
    pub(crate) async fn create_databases(&self, secrets: &Secrets) -> Result<()> {
        let mut server = self.connect(secrets, "postgres").await?;
        execute(&mut server, "REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC").await?;
        for Tenant { database, role, password } in tenants(secrets) {
            let exists =
                sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)");
            if !exists.bind(role).fetch_one(&mut server).await? {
                execute(&mut server, &format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'"))
                    .await?;
            }
            let exists =
                sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)");
            if !exists.bind(database).fetch_one(&mut server).await? {
                execute(&mut server, &format!("CREATE DATABASE {database} OWNER {ADMIN}")).await?;
            }
            let mut own = self.connect(secrets, database).await?;
            let grants = format!(
                "REVOKE ALL ON DATABASE {database} FROM PUBLIC;
                 GRANT CONNECT ON DATABASE {database} TO {role};
                 GRANT USAGE ON SCHEMA public TO {role};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {ADMIN} IN SCHEMA public
                     GRANT SELECT, INSERT, UPDATE ON TABLES TO {role};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {ADMIN} IN SCHEMA public
                     GRANT USAGE, SELECT ON SEQUENCES TO {role};"
            );
            execute(&mut own, &grants).await?;
            own.close().await?;
        }
        Ok(server.close().await?)
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
        let [account, transaction, report] = tenants(secrets)
            .map(|tenant| url(tenant.role, tenant.password, self.port, tenant.database));
        Databases { account, transaction, report }
    }

    async fn connect(&self, secrets: &Secrets, database: &str) -> Result<PgConnection> {
        let url = url(ADMIN, &secrets.postgres.passbook, self.port, database);
        Ok(PgConnection::connect(&url).await?)
    }
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
