//! A disk on which each `fsync` takes long, for all processes of a stack. strace delays the
//! system calls. That works for nats-server too, which does not use the C library.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    Stack,
    process::{passbook, start_by},
    stack::initialized_folder,
};

/// A disk with this delay of `fsync` and `fdatasync`.
#[derive(Debug, Clone, Copy)]
pub struct SlowDisk(pub Duration);

impl SlowDisk {
    /// Starts a stack on the disk. Its data is made at full speed.
    pub async fn start(self, name: &str, arguments: &[&str]) -> Stack {
        let dir = initialized_folder(name).await;
        Stack::start_in(&dir, arguments).await.stop(Signal::SIGTERM);
        let child = self.spawn(&dir, arguments);
        Stack::ready(child, &dir, dir.with_extension("log")).await
    }

    /// Kills a stack: its orderly end takes half a minute here.
    pub fn kill(mut stack: Stack) {
        stack.stop(Signal::SIGKILL);
        let _ = fs::remove_dir_all(&stack.dir);
    }

    fn spawn(self, dir: &Path, arguments: &[&str]) -> Child {
        let delay = format!("fsync,fdatasync:delay_enter={}", self.0.as_micros());
        let (inject, program) = (format!("inject={delay}"), passbook());
        // `-D`: the stack is this process's own child, and strace ends with it.
        let strace = ["strace", "-D", "-f", "--seccomp-bpf", "-e", "trace=fsync,fdatasync"];
        let trace = dir.with_extension("strace");
        let output = ["-e", &inject, "-o", trace.to_str().unwrap(), program.to_str().unwrap()];
        let up = [&["dev", "up", "--dir", dir.to_str().unwrap()], arguments].concat();
        start_by(
            &[&strace[..], &output].concat(),
            &up,
            None,
            Stdio::null(),
            &dir.with_extension("log"),
        )
    }
}
