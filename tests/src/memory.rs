//! How much memory the services hold.

use std::{collections::BTreeMap, fs, time::Duration};

use devstack::StackFile;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Stack;

const EVERY: Duration = Duration::from_millis(200);

/// Resident memory of a process in KiB; `None` when it is gone.
#[must_use]
pub fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Looks at the services until it is told to end.
pub struct Memory {
    stop: CancellationToken,
    looking: JoinHandle<BTreeMap<String, u64>>,
}

impl Memory {
    #[must_use]
    pub fn start(stack: &Stack) -> Self {
        let stop = CancellationToken::new();
        let (dir, ended) = (stack.dir.clone(), stop.clone());
        let looking = tokio::spawn(async move {
            let mut most = BTreeMap::<String, u64>::new();
            while ended.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
                let Ok(file) = StackFile::read(&dir) else { continue };
                for process in file.processes.iter().filter(|it| it.admin.is_some()) {
                    let mib = resident(process.pid).unwrap_or_default() / 1024;
                    let most = most.entry(process.name.clone()).or_default();
                    *most = (*most).max(mib);
                }
            }
            most
        });
        Self { stop, looking }
    }

    /// The most that each had, in MiB.
    pub async fn finish(self) -> BTreeMap<String, u64> {
        self.stop.cancel();
        self.looking.await.unwrap()
    }
}
