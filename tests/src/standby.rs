//! A streaming replica of a stack's PostgreSQL, made from a copy of its data.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt, chown},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Uid};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use crate::{
    Stack, eventually,
    process::{signal, start_by},
};

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
