//! A disk of 300 MB for PostgreSQL, one of 32 MB for the broker, or one of 4 MB for the files of reports. Only the
//! stack on it can see the disk, and the disk disappears with the stack's processes. A folder with
//! a disk is not empty, so it is marked as a stack's own before the start.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use devstack::stack_dir::MARKER;

use crate::{
    Stack,
    process::{passbook, start_by},
    stack::folder,
};

#[derive(Debug)]
pub struct SmallDisk {
    /// The mount point in the stack's mount namespace.
    dir: PathBuf,
}

impl SmallDisk {
    /// `None` where this user may not mount a disk.
    pub async fn mount(name: &str) -> Option<Self> {
        let disk = Self { dir: folder(name) };
        let mut trial = tokio::process::Command::new("unshare");
        trial.args(["--mount", "sh", "-c"]).arg(disk.script("true"));
        let output = trial.output().await.ok()?;
        output.status.success().then_some(disk)
    }

    /// A shell script that mounts the disk, then runs `command`.
    fn script(&self, command: &str) -> String {
        let dir = self.dir.display();
        // The broker's data is elsewhere, so that only PostgreSQL runs out of space.
        format!(
            "mount -t tmpfs -o size=300m,mode=0711 passbook {dir} && mkdir -p {dir}.nats && \
             ln -s {dir}.nats {dir}/nats && touch {dir}/{MARKER} && {command}"
        )
    }

    /// Starts a stack on the disk.
    pub async fn start(&self, arguments: &[&str]) -> Stack {
        let (program, dir) = (passbook(), self.dir.display());
        let up = format!("exec {} dev up --dir {dir} {}", program.display(), arguments.join(" "));
        let log = self.dir.with_extension("log");
        let command = ["unshare", "--mount", "sh", "-c", &self.script(&up)];
        let child = start_by(&command, &[], None, Stdio::null(), &log);
        let seen_from_here = PathBuf::from(format!("/proc/{}/root{dir}", child.id()));
        Stack::ready(child, &seen_from_here, log).await
    }

    /// Fills the disk to the last byte.
    pub fn fill(&self, stack: &Stack) {
        fill_up(&stack.dir.join("ballast"));
    }

    /// Frees the space taken by [`fill`](Self::fill).
    pub fn make_room(&self, stack: &Stack) {
        fs::remove_file(stack.dir.join("ballast")).unwrap();
    }
}

/// A disk for the data of the broker alone.
#[derive(Debug)]
pub struct BrokerDisk {
    /// The directory of the stack.
    dir: PathBuf,
}

impl BrokerDisk {
    /// `None` where this user may not mount a disk.
    pub async fn mount(name: &str) -> Option<Self> {
        let disk = Self { dir: folder(name) };
        let mut trial = tokio::process::Command::new("unshare");
        let output = trial.args(["--mount", "sh", "-c", &disk.script()]).output().await.ok()?;
        output.status.success().then_some(disk)
    }

    fn script(&self) -> String {
        let (data, marker) = (self.dir.join("nats"), self.dir.join(MARKER));
        let (data, marker) = (data.display(), marker.display());
        format!(
            "touch {marker} && mkdir -p {data} && mount -t tmpfs -o size=32m,mode=0700 passbook {data}"
        )
    }

    /// Starts a stack whose broker writes to the disk.
    pub async fn start(&self) -> Stack {
        let (program, log) = (passbook(), self.dir.with_extension("log"));
        let script = format!("{} && exec \"$@\"", self.script());
        let (program, dir) = (program.to_str().unwrap(), self.dir.to_str().unwrap());
        let command = ["unshare", "--mount", "sh", "-c", &script, "sh", program];
        let none = ["--report-replicas", "0", "--webhook-replicas", "0"];
        let up = [&["dev", "up", "--dir", dir, "--port", "0"][..], &none].concat();
        Stack::ready(start_by(&command, &up, None, Stdio::null(), &log), &self.dir, log).await
    }

    fn ballast(&self, stack: &Stack) -> PathBuf {
        // The disk is mounted for the processes of the stack only.
        let dir = self.dir.display();
        PathBuf::from(format!("/proc/{}/root{dir}/nats/ballast", stack.supervisor()))
    }

    /// Fills the disk to the last byte.
    pub fn fill(&self, stack: &Stack) {
        fill_up(&self.ballast(stack));
    }

    /// Frees the space taken by [`fill`](Self::fill).
    pub fn make_room(&self, stack: &Stack) {
        fs::remove_file(self.ballast(stack)).unwrap();
    }
}

fn fill_up(ballast: &Path) {
    let mut ballast = File::create(ballast).unwrap();
    for chunk in [vec![1; 1 << 20], vec![1; 4096]] {
        while ballast.write_all(&chunk).is_ok() {}
    }
}

/// A stack for reports with one report-service, whose storage is a disk of 4 MB. `settings` are
/// `NAME=value`. `None` where this user may not mount a disk.
pub async fn start_with_small_storage(name: &str, settings: &[String]) -> Option<Stack> {
    let dir = folder(name);
    let storage = dir.join("artifacts");
    let mount = format!(
        "touch {1} && mkdir -p {0} && mount -t tmpfs -o size=4m,mode=0700 passbook {0}",
        storage.display(),
        dir.join(MARKER).display()
    );
    let mut trial = tokio::process::Command::new("unshare");
    let output = trial.args(["--mount", "sh", "-c", &mount]).output().await.ok()?;
    if !output.status.success() {
        return None;
    }
    // The settings are arguments of the shell: nothing in them is interpreted.
    let script = format!("{mount} && exec env \"$@\"");
    let mut command = vec!["unshare", "--mount", "sh", "-c", &script, "sh"];
    command.extend(settings.iter().map(String::as_str));
    let (program, log) = (passbook(), dir.with_extension("log"));
    command.extend([program.to_str().unwrap(), "dev", "up", "--dir", dir.to_str().unwrap()]);
    let replicas = ["--account-replicas", "--transaction-replicas", "--report-replicas"];
    let arguments: Vec<_> = replicas.into_iter().flat_map(|service| [service, "1"]).collect();
    let arguments = [&["--port", "0", "--webhook-replicas", "0"], &arguments[..]].concat();
    let child = start_by(&command, &arguments, None, Stdio::null(), &log);
    Some(Stack::ready(child, &dir, log).await)
}
