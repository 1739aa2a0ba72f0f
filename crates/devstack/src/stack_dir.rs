//! The folder of a stack: its contents, its access rights, and whose it is.
//!
//! A stack starts in a new or an empty folder only, or in one where a stack was
//! started before. It never writes beside files of somebody else. The first file it
//! creates is [`MARKER`], so that an interrupted start leaves either an empty
//! folder or a marked one.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::geteuid;
use tracing::info;

use crate::{
    lock,
    postgres::{self, SEARCHABLE, fallback_dir},
    remove, report_service,
    secrets::{JWKS, Secrets},
    service::SERVICES,
};

/// The file that marks the folder of a stack.
pub const MARKER: &str = "passbook-stack";
const MARKER_TEXT: &str = "The folder of a development stack of Passbook.\n`passbook dev down \
                           --remove-data` removes what the stack made here, and nothing else.\n";

/// Creates the folder `dir` of a stack and the folder of its logs, both for
/// the present user only. If this is root, other users may pass through `dir`,
/// because PostgreSQL runs as one of them. Existing folders keep their modes.
/// Returns the absolute path of `dir`.
///
/// # Errors
/// If `dir` has files and is not the folder of a stack, or a folder can't be
/// created.
pub fn create(dir: &Path) -> Result<PathBuf> {
    let create = || -> io::Result<PathBuf> {
        if !dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            if geteuid().is_root() {
                fs::set_permissions(dir, Permissions::from_mode(SEARCHABLE))?;
            }
        }
        fs::canonicalize(dir)
    };
    let dir = create().with_context(|| format!("creating the stack's folder {}", dir.display()))?;
    if !is_stack(&dir) {
        let mut entries = fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
        if let Some(entry) = entries.next() {
            bail!(
                "{} is not empty, and no stack was started there: it contains {}. Choose a new or \
                 an empty folder with --dir",
                dir.display(),
                entry.with_context(|| dir.display().to_string())?.file_name().display()
            );
        }
    }
    mark(&dir)?;
    private_folder(&logs(&dir))?;
    Ok(dir)
}

/// Whether a stack was started in `dir`. Earlier releases did not mark the
/// folder; the secrets are theirs.
pub(crate) fn is_stack(dir: &Path) -> bool {
    dir.join(MARKER).is_file() || Secrets::read(dir).is_ok()
}

fn mark(dir: &Path) -> Result<()> {
    let path = dir.join(MARKER);
    let write = || match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(mut file) => file.write_all(MARKER_TEXT.as_bytes()),
    };
    write().with_context(|| format!("creating {}", path.display()))
}

/// Creates the folders of the report-service's files, for the present user
/// only. Removes the unfinished files of an earlier run.
///
/// # Errors
/// If a folder can't be created or emptied.
pub(crate) fn create_report_folders(dir: &Path) -> Result<()> {
    let scratch = report_service::scratch(dir);
    remove::dir_all(&scratch)?;
    private_folder(&report_service::artifacts(dir))?;
    private_folder(&scratch)
}

fn private_folder(folder: &Path) -> Result<()> {
    let create = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    create.with_context(|| format!("creating {}", folder.display()))
}

/// The folder of the logs of the stack in `dir`. Each process has one file.
#[must_use]
pub fn logs(dir: &Path) -> PathBuf {
    dir.join("logs")
}

/// The folder as an argument to paste into a shell: quoted if need be.
#[must_use]
pub fn shell_argument(dir: &Path) -> String {
    let text = dir.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

const BROKERS: [&str; 4] = ["nats", "nats-0", "nats-1", "nats-2"];
/// Each is written by way of a file with `.new` at the end of its name.
const FILES: [&str; 7] =
    ["nats.conf", "nats-0.conf", "nats-1.conf", "nats-2.conf", "stack.json", JWKS, "secrets.json"];

/// Removes what a stack made in `dir`, and `dir` itself if nothing else is in it.
/// Returns the entries that remain: the stack did not make them. A link is never
/// followed, because a stack makes none.
///
/// An interrupted removal can be repeated: the mark goes last.
///
/// # Errors
/// If no stack was ever started in `dir`, the stack still runs, or a file
/// can't be removed.
pub async fn remove(dir: &Path) -> Result<Vec<PathBuf>> {
    ensure!(is_stack(dir), "{} is not the folder of a stack: nothing is removed", dir.display());
    mark(dir)?;
    let lock = lock::take(dir).await?;
    // Without secrets, the start ended before there was any data.
    if dir.join("secrets.json").exists() {
        remove::dir_all(&fallback_dir(&Secrets::read(dir)?)?)?;
    }
    postgres::remove_data(dir)?;
    for broker in BROKERS {
        remove_entries(&dir.join(broker), |entry| entry == "jetstream")?;
    }
    remove_entries(&report_service::artifacts(dir), report_service::is_artifact)?;
    remove_entries(&report_service::scratch(dir), |_| true)?;
    remove_entries(&logs(dir), is_log)?;
    for name in FILES {
        remove::file(&dir.join(name))?;
        remove::file(&dir.join(format!("{name}.new")))?;
    }
    remove::file(&dir.join(lock::NAME))?;
    remove::file(&dir.join(MARKER))?;
    drop(lock);
    let Err(error) = fs::remove_dir(dir) else { return Ok(Vec::new()) };
    let remaining = remaining(dir)?;
    if remaining.is_empty() {
        // A link, the present folder as `.`, or a mount point.
        info!("the empty folder {} stays: {error}", dir.display());
    }
    Ok(remaining)
}

/// Removes the entries of `folder` whose names are the stack's, and the folder if
/// it is empty then.
fn remove_entries(folder: &Path, is_own: impl Fn(&str) -> bool) -> Result<()> {
    if !fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(());
    }
    let path = || folder.display().to_string();
    for entry in fs::read_dir(folder).with_context(path)? {
        let entry = entry.with_context(path)?;
        if !entry.file_name().to_str().is_some_and(&is_own) {
            continue;
        }
        if entry.file_type().with_context(path)?.is_dir() {
            remove::dir_all(&entry.path())?;
        } else {
            remove::file(&entry.path())?;
        }
    }
    remove::empty_dir(folder)
}

/// Whether a process of a stack writes a log with this name.
fn is_log(name: &str) -> bool {
    let Some(process) = name.strip_suffix(".log") else { return false };
    let number = process.rsplit_once('-').filter(|(_, number)| number.parse::<u16>().is_ok());
    let is_replica = |name| name == "nats" || SERVICES.iter().any(|service| service.name == name);
    matches!(process, "stack" | "initdb" | "provision" | "migrate" | "postgres" | "nats")
        || number.is_some_and(|(name, _)| is_replica(name))
}

/// The entries of the folder. Of the stack's own folders, their entries.
fn remaining(dir: &Path) -> Result<Vec<PathBuf>> {
    let path = || dir.display().to_string();
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).with_context(path)? {
        let entry = entry.with_context(path)?.path();
        let own = ["artifacts", "scratch", "logs"].into_iter().chain(BROKERS).map(OsStr::new);
        let is_own = entry.file_name().is_some_and(|name| own.clone().any(|own| own == name));
        let inner = if is_own && !entry.is_symlink() { fs::read_dir(&entry).ok() } else { None };
        match inner {
            Some(inner) => all.extend(inner.flatten().map(|entry| entry.path())),
            None => all.push(entry),
        }
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_quoted_for_the_shell_if_need_be() {
        for (dir, argument) in [
            (".passbook", ".passbook"),
            ("/srv/pass-book_1", "/srv/pass-book_1"),
            ("my stack", "'my stack'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("통장", "'통장'"),
            ("", "''"),
        ] {
            assert_eq!(shell_argument(Path::new(dir)), argument);
        }
    }

    #[test]
    fn the_logs_of_the_stack_are_told_from_others() {
        for (name, is_own) in [
            ("stack.log", true),
            ("nats-2.log", true),
            ("account-service-10.log", true),
            ("initdb.log", true),
            ("app.log", false),
            ("postgres-1.log", false),
            ("account-service.log", false),
            ("account-service-x.log", false),
            ("nats.txt", false),
        ] {
            assert_eq!(is_log(name), is_own, "{name}");
        }
    }
}
