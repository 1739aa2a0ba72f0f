//! PostgreSQL: one server for all services, with a database and a role for
//! each, as production gives each service a database of its own. Durability
//! is left as it ships: a test that passes with `fsync` off proves little.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    Databases, Secrets,
    postgres_home::Home,
    process::{Launcher, Program},
    servers::Found,
};

const HOST: &str = "127.0.0.1";
/// The superuser.
const ADMIN: &str = "passbook";

/// The server of one stack.
#[derive(Debug)]
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
                 the data by `passbook dev down --remove-data`",
                home.data.display(),
                found.version,
                written = written.trim(),
            ),
            Err(_) if !home.data.exists() => initialize(launcher, &home, secrets).await?,
            Err(error) => return Err(error).with_context(|| home.data.display().to_string()),
        }
        Ok(Self { home, port })
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
        ] {
            arguments.extend(["-c".into(), setting.into()]);
        }
        Program {
            name: "postgres".to_owned(),
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

/// Makes the data in a folder of its own first, so that an interrupted run
/// leaves nothing that looks whole.
async fn initialize(launcher: &Launcher, home: &Home, secrets: &Secrets) -> Result<()> {
    let data = home.parent.join("postgres.new");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    DirBuilder::new().mode(0o700).create(&data)?;
    give(&data, home)?;
    let password = write_password(home, &secrets.postgres.passbook)?;
    let program = Program {
        name: "initdb".to_owned(),
        path: home.bin.join("initdb"),
        arguments: vec![
            "--pgdata".into(),
            data.clone().into_os_string(),
            "--encoding=UTF8".into(),
            "--locale=C".into(),
            "--auth=scram-sha-256".into(),
            format!("--username={ADMIN}").into(),
            "--pwfile".into(),
            password.clone().into_os_string(),
        ],
        environment: Vec::new(),
        user: home.user,
        signal: Signal::SIGTERM,
    };
    let outcome = launcher.run(&program).await;
    fs::remove_file(&password)?;
    outcome?;
    fs::rename(&data, &home.data).with_context(|| format!("creating {}", home.data.display()))
}

fn write_password(home: &Home, password: &str) -> Result<PathBuf> {
    let path = home.parent.join("postgres.password");
    if path.exists() {
        fs::remove_file(&path)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(password.as_bytes())?;
    give(&path, home)?;
    Ok(path)
}

/// Makes PostgreSQL's user the owner of `path`.
fn give(path: &Path, home: &Home) -> Result<()> {
    if let Some(user) = home.user {
        chown(path, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}
