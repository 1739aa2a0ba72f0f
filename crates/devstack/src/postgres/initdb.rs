//! Initializes the data folder of a new PostgreSQL server.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown},
    path::Path,
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::layout::Layout;
use crate::{
    remove,
    spawn::{ProcessSpec, Spawner},
};

/// Runs `initdb` in a temporary folder, then renames its data: an interrupted run
/// never looks complete. The temporary folder also has the password's file, so that
/// nothing else is left behind.
///
/// # Errors
/// If `initdb` fails; with the last lines of its log.
pub(crate) async fn run(
    spawner: &Spawner,
    layout: &Layout,
    superuser: &str,
    password: &str,
) -> Result<()> {
    let partial = layout.partial();
    remove::dir_all(&partial)?;
    let (data, password_file) = (partial.join("data"), partial.join("password"));
    for folder in [&partial, &data] {
        create_folder(folder, layout).with_context(|| format!("creating {}", folder.display()))?;
    }
    write_password(&password_file, layout, password)
        .with_context(|| format!("writing {}", password_file.display()))?;
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
            password_file.into_os_string(),
        ],
        environment: Vec::new(),
        inherited_prefixes: &[],
        user: layout.user,
        stop_signal: Signal::SIGTERM,
    };
    spawner.run(&process).await?;
    fs::rename(&data, &layout.data)
        .with_context(|| format!("creating {}", layout.data.display()))?;
    remove::dir_all(&partial)
}

fn create_folder(path: &Path, layout: &Layout) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    change_owner(path, layout)
}

fn write_password(path: &Path, layout: &Layout, password: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(password.as_bytes())?;
    change_owner(path, layout)
}

/// Makes the user of PostgreSQL the owner of `path`.
fn change_owner(path: &Path, layout: &Layout) -> io::Result<()> {
    if let Some(user) = layout.user {
        chown(path, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}
