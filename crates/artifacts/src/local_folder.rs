//! What `object_store`'s local folder leaves open: permissions, symbolic links, leftovers.
//!
//! `object_store` writes `<name>#<number>` and renames it, with fsync of file and folder. It
//! follows symbolic links, recreates a lost root, and never removes what a killed process left.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use futures::{Stream, StreamExt, stream};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{ArtifactPath, ListedFile, Prefix, StorageError};

/// Its time tells the clock of the file system. No artifact has such a path.
const CLOCK_FILE: &str = ".clock";
/// Files ahead of the reader of a listing.
const LISTED_AHEAD: usize = 256;

/// The root of a local storage.
#[derive(Debug, Clone)]
pub(crate) struct LocalFolder {
    /// Absolute, without symbolic links.
    root: PathBuf,
}

impl LocalFolder {
    /// Creates the folder, readable by this user only, if it is missing.
    ///
    /// # Errors
    /// If the folder can't be made or is no folder.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self { root: fs::canonicalize(path)? })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn file(&self, path: &ArtifactPath) -> PathBuf {
        self.root.join(path.to_string())
    }

    /// Refuses a lost root and symbolic links on the way to `path`.
    ///
    /// Without the check of the root, a lost mount would count as a storage without files.
    pub(crate) fn check(&self, path: &ArtifactPath) -> Result<(), StorageError> {
        self.check_root()?;
        let file = self.file(path);
        let below_root = file.ancestors().take_while(|part| *part != self.root);
        for part in below_root {
            match fs::symlink_metadata(part) {
                Ok(found) if found.is_symlink() => {
                    let part = part.display();
                    return Err(StorageError::Other(format!("{part} is a symbolic link")));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at(part, &error)),
            }
        }
        Ok(())
    }

    pub(crate) fn check_root(&self) -> Result<(), StorageError> {
        match fs::symlink_metadata(&self.root) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(StorageError::Other(format!("{} is no folder", self.root.display()))),
            Err(error) => {
                Err(StorageError::Unavailable(format!("{}: {error}", self.root.display())))
            }
        }
    }

    /// Makes the folder of `path`, readable by this user only.
    pub(crate) fn make_folder(&self, path: &ArtifactPath) -> Result<(), StorageError> {
        let file = self.file(path);
        let Some(folder) = file.parent() else { return Ok(()) };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| at(folder, &error))
    }

    /// Makes `path` readable by this user only. Its folder is so already.
    pub(crate) fn protect(&self, path: &ArtifactPath) -> Result<(), StorageError> {
        let file = self.file(path);
        let done = fs::set_permissions(&file, Permissions::from_mode(0o600));
        done.map_err(|error| at(&file, &error))
    }

    /// Sends the files below `prefix`. Ends early if the receiver is gone.
    fn send_list(&self, prefix: Prefix, files: &Sender) -> Result<(), StorageError> {
        self.check_root()?;
        self.walk(prefix, &mut |path| {
            let Some(listed) = self.listed(path)? else { return Ok(true) };
            Ok(files.blocking_send(Ok(listed)).is_ok())
        })
    }

    /// `None` for a file that is no artifact, or is gone meanwhile.
    fn listed(&self, file: &Path) -> Result<Option<ListedFile>, StorageError> {
        let relative = file.strip_prefix(&self.root).ok().and_then(Path::to_str);
        let Some(path) = relative.and_then(|text| text.parse().ok()) else { return Ok(None) };
        match fs::symlink_metadata(file) {
            Ok(found) if found.is_file() => {
                let modified = found.modified().map_err(|error| at(file, &error))?.into();
                Ok(Some(ListedFile { path, size: found.len(), modified }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(file, &error)),
        }
    }

    /// The time by the clock of the file system, which also dates the files. It may differ
    /// from this process's clock, and a full file system may not tell it.
    fn time(&self) -> io::Result<SystemTime> {
        let probe = self.root.join(CLOCK_FILE);
        fs::write(&probe, "0")?;
        fs::metadata(&probe)?.modified()
    }

    /// Removes unfinished files that are older than `age`. Returns their number. The first error
    /// does not keep the others.
    pub(crate) fn remove_unfinished(&self, age: Duration) -> Result<u64, StorageError> {
        self.check_root()?;
        let now = self.time().unwrap_or_else(|_| SystemTime::now());
        let Some(limit) = now.checked_sub(age) else { return Ok(0) };
        let mut removed = 0;
        self.walk(Prefix::All, &mut |file| {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let unfinished = name
                .rsplit_once('#')
                .is_some_and(|(name, number)| !name.is_empty() && number.parse::<u32>().is_ok());
            let is_old = || fs::symlink_metadata(file)?.modified().map(|time| time < limit);
            if unfinished && is_old().is_ok_and(|old| old) {
                fs::remove_file(file).map_err(|error| at(file, &error))?;
                removed += 1;
            }
            Ok(true)
        })?;
        Ok(removed)
    }

    /// Visits everything in the attempts' folders, without following symbolic links, until
    /// `visit` returns false.
    ///
    /// # Errors
    /// The first one. It does not keep the rest: the next walk would meet it again.
    fn walk(&self, prefix: Prefix, visit: &mut Visit<'_>) -> Result<(), StorageError> {
        let start = self.root.join(prefix.folder().unwrap_or_default());
        let depth = match prefix {
            Prefix::All => 3,
            Prefix::Attempt(..) => 1,
        };
        let mut first = None;
        descend(&start, depth, visit, &mut first);
        first.map_or(Ok(()), Err)
    }
}

type Sender = mpsc::Sender<Result<ListedFile, StorageError>>;

type Visit<'a> = dyn FnMut(&Path) -> Result<bool, StorageError> + 'a;

/// The artifacts below `prefix`, found by a thread of their own.
pub(crate) fn list(
    folder: LocalFolder,
    prefix: Prefix,
) -> impl Stream<Item = Result<ListedFile, StorageError>> + Send {
    stream::once(async move {
        let (sender, receiver) = mpsc::channel(LISTED_AHEAD);
        spawn_blocking(move || {
            if let Err(error) = folder.send_list(prefix, &sender) {
                // The reader may be gone.
                let _ = sender.blocking_send(Err(error));
            }
        });
        stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|file| (file, receiver))
        })
    })
    .flatten()
}

/// Visits the entries `depth` levels below `folder`, until `visit` returns false. Keeps the first
/// error.
fn descend(
    folder: &Path,
    depth: u8,
    visit: &mut Visit<'_>,
    first: &mut Option<StorageError>,
) -> bool {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                first.get_or_insert_with(|| at(folder, &error));
            }
            return true;
        }
    };
    for entry in entries {
        let go_on = match entry.map_err(|error| at(folder, &error)) {
            Ok(entry) if depth <= 1 => visit(&entry.path()),
            Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                Ok(descend(&entry.path(), depth - 1, visit, first))
            }
            Ok(_) => Ok(true),
            Err(error) => Err(error),
        };
        match go_on {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    true
}

fn at(path: &Path, error: &io::Error) -> StorageError {
    StorageError::from_io(error, format!("{}: {error}", path.display()))
}
