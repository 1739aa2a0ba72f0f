//! Resident memory of the services.

use std::{collections::BTreeMap, fs, time::Duration};

use devstack::StackFile;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Stack;

const INTERVAL: Duration = Duration::from_millis(200);

/// The resident memory of a process in KiB; `None` if the process does not exist.
#[must_use]
pub fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Samples the memory of all services of a stack.
pub struct MemorySampler {
    stop: CancellationToken,
    sampling: JoinHandle<BTreeMap<String, u64>>,
}

impl MemorySampler {
    #[must_use]
    pub fn start(stack: &Stack) -> Self {
        let stop = CancellationToken::new();
        let (dir, stopped) = (stack.dir.clone(), stop.clone());
        let sampling = tokio::spawn(async move {
            let mut peaks = BTreeMap::<String, u64>::new();
            while stopped.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
                let Ok(file) = StackFile::read(&dir) else { continue };
                for service in file.processes.iter().filter(|process| process.admin.is_some()) {
                    let mib = resident(service.pid).unwrap_or_default() / 1024;
                    let peak = peaks.entry(service.name.clone()).or_default();
                    *peak = (*peak).max(mib);
                }
            }
            peaks
        });
        Self { stop, sampling }
    }

    /// Stops sampling. Gives the peak of each service by its name, in MiB.
    pub async fn finish(self) -> BTreeMap<String, u64> {
        self.stop.cancel();
        self.sampling.await.unwrap()
    }
}
