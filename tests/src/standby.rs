//! An asynchronous replica of a stack's PostgreSQL, made from a copy of its data. It can be
//! promoted without the last commits.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt, chown},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Uid};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::{
    Stack, eventually,
    process::{signal, start_by},
};

/// Limit for a step of the replication.
const LIMIT: Duration = Duration::from_secs(30);

/// A running replica. Dropping this stops it and removes its data.
#[derive(Debug)]
pub struct Standby {
    data: PathBuf,
    port: u16,
    server: Child,
}

impl Standby {
    /// Starts a replica, and waits until it accepts connections.
    pub async fn start(stack: &Stack) -> Self {
        let primary: PgConnectOptions = stack.file().databases.account.parse().unwrap();
        let mut connection = primary.connect().await.unwrap();
        let source: String =
            sqlx::query_scalar("SHOW data_directory").fetch_one(&mut connection).await.unwrap();
        let data = PathBuf::from(format!("{source}-standby"));
        sqlx::query("SELECT pg_backup_start('standby', true)")
            .execute(&mut connection)
            .await
            .unwrap();
        let copied = Command::new("cp").args(["-a", &source]).arg(&data).status().unwrap();
        assert!(copied.success(), "{copied}");
        let label: String = sqlx::query_scalar("SELECT labelfile FROM pg_backup_stop(false)")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        fs::remove_file(data.join("postmaster.pid")).unwrap();
        let password = stack.file().databases.account;
        let password = password.split([':', '@']).nth(2).unwrap().to_owned();
        let (host, user) = (primary.get_host(), primary.get_username());
        let primary_conninfo = format!(
            "primary_conninfo = 'host={host} port={} user={user} password={password}'\n",
            primary.get_port()
        );
        let owner = fs::metadata(&data).unwrap().uid();
        for (name, text) in [
            ("backup_label", label.as_str()),
            ("standby.signal", ""),
            ("postgresql.auto.conf", primary_conninfo.as_str()),
        ] {
            fs::write(data.join(name), text).unwrap();
            chown(data.join(name), Some(owner), None).unwrap();
        }
        let server = fs::read_link(format!("/proc/{}/exe", stack.pid("postgres"))).unwrap();
        // The kernel gives a free port. Nothing else takes it in the short time until the start.
        let port = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port();
        let user = (owner != Uid::current().as_raw()).then(|| Uid::from_raw(owner));
        let (program, folder) = (server.to_str().unwrap(), data.to_str().unwrap());
        let (port_setting, host_setting) =
            (format!("port={port}"), format!("listen_addresses={host}"));
        let arguments = [
            "-D",
            folder,
            "-c",
            &port_setting,
            "-c",
            &host_setting,
            "-c",
            "unix_socket_directories=",
            "-c",
            "max_connections=200",
        ];
        let log = stack.dir.with_extension("standby.log");
        let server = start_by(&[program], &arguments, user, Stdio::null(), &log);
        let standby = Self { data, port, server };
        let url = standby.url_of(&stack.file().databases.account);
        eventually("the replica accepts connections", Duration::from_secs(30), || async {
            PgConnection::connect(&url).await.ok()
        })
        .await;
        standby
    }

    /// Waits until the replica has every commit of the primary.
    pub async fn has_caught_up(&self, stack: &Stack) {
        let primary = stack.file().databases.account;
        let mut connection = PgConnection::connect(&primary).await.unwrap();
        let now: String = sqlx::query_scalar("SELECT pg_current_wal_lsn()::text")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{now}'");
        self.until(stack, "the replica has all commits", &replayed).await;
    }

    /// Ends the replication: later commits of the primary are lost.
    pub async fn receives_no_more(&self, stack: &Stack) {
        let mut replica = self.connect(stack).await;
        for statement in ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"] {
            sqlx::raw_sql(statement).execute(&mut replica).await.unwrap();
        }
        let ended = "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)";
        self.until(stack, "the replication has ended", ended).await;
    }

    /// From now on, the replica shows no later commit of the primary.
    pub async fn stops_replaying(&self, stack: &Stack) {
        let mut replica = self.connect(stack).await;
        sqlx::raw_sql("SELECT pg_wal_replay_pause()").execute(&mut replica).await.unwrap();
        let paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'";
        self.until(stack, "the replay is paused", paused).await;
    }

    /// The replica shows the commits of the primary again.
    pub async fn replays_again(&self, stack: &Stack) {
        let mut replica = self.connect(stack).await;
        sqlx::raw_sql("SELECT pg_wal_replay_resume()").execute(&mut replica).await.unwrap();
    }

    /// Makes the replica a primary. The former one runs on: it stands for the other database.
    pub async fn promote(&self, stack: &Stack) {
        self.until(stack, "the replica is promoted", "SELECT pg_promote()").await;
    }

    /// Waits until a query gives true.
    async fn until(&self, stack: &Stack, what: &str, query: &str) {
        eventually(what, LIMIT, || async {
            let mut replica = self.connect(stack).await;
            let query = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
            let is_true: bool = query.fetch_one(&mut replica).await.unwrap();
            is_true.then_some(())
        })
        .await;
    }

    async fn connect(&self, stack: &Stack) -> PgConnection {
        PgConnection::connect(&self.url_of(&stack.file().databases.account)).await.unwrap()
    }

    /// The port of this machine.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the same database here.
    #[must_use]
    pub fn url_of(&self, primary: &str) -> String {
        let (head, database) = primary.rsplit_once('/').unwrap();
        let (head, _) = head.rsplit_once(':').unwrap();
        format!("{head}:{}/{database}", self.port)
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        signal(self.server.id(), Signal::SIGINT);
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
}
