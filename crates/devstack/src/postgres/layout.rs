//! The folders of PostgreSQL's data and programs, and its user.
//!
//! PostgreSQL refuses to run as root. So if this process is root, PostgreSQL
//! runs as another user. This user may have no access to a folder under
//! `/root`, or to one made by `mktemp -d`. Then the data, and programs
//! installed there, are placed under `/var/tmp`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use tracing::info;

use super::unprivileged_user;
use crate::{pdeathsig::User, remove, secrets::Secrets, server_search::ServerBinary};

const DATA: &str = "postgres";
/// The folder of a data folder in the making, and of one that is being removed.
const PARTIAL: &str = "postgres.new";

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The folder of `postgres` and `initdb`.
    pub(crate) bin: PathBuf,
    /// The parent of the data folder.
    pub(crate) parent: PathBuf,
    pub(crate) data: PathBuf,
    /// `None` runs PostgreSQL as the present user.
    pub(crate) user: Option<User>,
}

impl Layout {
    /// Chooses the folders for the stack in `dir`.
    ///
    /// # Errors
    /// If PostgreSQL's user has no access to existing data, or to the programs.
    pub(crate) async fn find(
        dir: &Path,
        postgres: &ServerBinary,
        secrets: &Secrets,
    ) -> Result<Self> {
        let bin = postgres.program.parent().context("a program lies in a folder")?.to_owned();
        if !geteuid().is_root() {
            return Ok(Self::new(bin, dir.to_owned(), None));
        }
        let fallback = fallback_dir(secrets)?;
        let user = unprivileged_user::choose(&[dir.join(DATA), fallback.join(DATA)])?;
        let parent = if unprivileged_user::can_enter(user, dir).await {
            dir.to_owned()
        } else {
            let name = unprivileged_user::name(user);
            ensure!(
                !dir.join(DATA).exists(),
                "PostgreSQL's data in {} belongs to {name}, which has no access to this folder: let \
                 other users pass through it and its parents (chmod o+x)",
                dir.display()
            );
            info!(
                "PostgreSQL runs as {name}, which has no access to {}: its data is in {}",
                dir.display(),
                fallback.display()
            );
            unprivileged_user::create_searchable(&fallback)?;
            fallback
        };
        let bin = unprivileged_user::executable_bin(bin, user).await?;
        Ok(Self::new(bin, parent, Some(user)))
    }

    /// The folder in which the data folder is made.
    pub(crate) fn partial(&self) -> PathBuf {
        self.parent.join(PARTIAL)
    }

    fn new(bin: PathBuf, parent: PathBuf, user: Option<User>) -> Self {
        Self { bin, data: parent.join(DATA), parent, user }
    }
}

/// The folder of the data that can't be in the stack's folder. Its name
/// derives from a secret: if the stack's folder is removed and created again,
/// it does not find old data with an old password.
///
/// # Errors
/// If the superuser's password is missing.
pub(crate) fn fallback_dir(secrets: &Secrets) -> Result<PathBuf> {
    Ok(unprivileged_user::tmp_dir(secrets.superuser_password()?.as_bytes()))
}

/// Removes PostgreSQL's data and its left-overs from the folder `dir` of a stack.
/// A folder of this name without PostgreSQL's data is left, as is a link to one.
///
/// # Errors
/// If the data can't be removed.
pub(crate) fn remove_data(dir: &Path) -> Result<()> {
    let (data, partial) = (dir.join(DATA), dir.join(PARTIAL));
    remove::dir_all(&partial)?;
    // Earlier releases left it behind when they were interrupted.
    remove::file(&dir.join("postgres.password"))?;
    if data.is_symlink() || !data.is_dir() {
        return Ok(());
    }
    if !data.join("PG_VERSION").is_file() {
        return remove::empty_dir(&data);
    }
    // At once, so that an interrupted removal leaves no half of a data folder.
    match fs::rename(&data, &partial) {
        Ok(()) => remove::dir_all(&partial),
        // A mount point, for example.
        Err(_) => remove::dir_all(&data),
    }
}
