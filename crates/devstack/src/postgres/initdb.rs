//! Makes the files of a new PostgreSQL server.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::{
    launcher::{Launcher, Program},
    postgres_home::Home,
};

/// Makes the data in a folder of its own first, so that an interrupted run
/// leaves nothing that looks whole.
///
/// # Errors
/// When `initdb` fails, with the end of its log.
pub(crate) async fn run(
    launcher: &Launcher,
    home: &Home,
    superuser: &str,
    password: &str,
) -> Result<()> {
    let data = home.parent.join("postgres.new");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    DirBuilder::new().mode(0o700).create(&data)?;
    give(&data, home)?;
    let password = write_password(home, password)?;
    let program = Program {
        name: "initdb".to_owned(),
        path: home.bin.join("initdb"),
        arguments: vec![
            "--pgdata".into(),
            data.clone().into_os_string(),
            "--encoding=UTF8".into(),
            "--locale=C".into(),
            "--auth=scram-sha-256".into(),
            format!("--username={superuser}").into(),
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
