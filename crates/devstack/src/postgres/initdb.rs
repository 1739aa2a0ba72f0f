//! Initializes the data folder of a new PostgreSQL server.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::layout::Layout;
use crate::{
    remove,
    spawn::{ProcessSpec, Spawner},
};

/// Runs `initdb` in a temporary folder, then renames it: an interrupted run
/// never looks complete.
///
/// # Errors
/// If `initdb` fails; with the last lines of its log.
pub(crate) async fn run(
    spawner: &Spawner,
    layout: &Layout,
    superuser: &str,
    password: &str,
) -> Result<()> {
    let data = layout.parent.join("postgres.new");
    remove::dir_all(&data)?;
    DirBuilder::new().mode(0o700).create(&data)?;
    change_owner(&data, layout)?;
    let password_file = write_password(layout, password)?;
    let process = ProcessSpec {
        name: "initdb".to_owned(),
        program: layout.bin.join("initdb"),
        arguments: vec![
            "--pgdata".into(),
            data.clone().into_os_string(),
            "--encoding=UTF8".into(),
            "--locale=C".into(),
            "--auth=scram-sha-256".into(),
            format!("--username={superuser}").into(),
            "--pwfile".into(),
            password_file.clone().into_os_string(),
        ],
        environment: Vec::new(),
        inherited_prefixes: &[],
        user: layout.user,
        stop_signal: Signal::SIGTERM,
    };
    let outcome = spawner.run(&process).await;
    fs::remove_file(&password_file)?;
    outcome?;
    fs::rename(&data, &layout.data).with_context(|| format!("creating {}", layout.data.display()))
}

fn write_password(layout: &Layout, password: &str) -> Result<PathBuf> {
    let path = layout.parent.join("postgres.password");
    remove::file(&path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(password.as_bytes())?;
    change_owner(&path, layout)?;
    Ok(path)
}

/// Makes the user of PostgreSQL the owner of `path`.
fn change_owner(path: &Path, layout: &Layout) -> Result<()> {
    if let Some(user) = layout.user {
        chown(path, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}
