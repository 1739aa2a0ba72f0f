//! A memory limit of the kernel for running processes, as that of a container: a control group.
//!
//! A limit of the address space would not do. The allocator reserves more than it uses, so
//! the process would not get over it, or not even start.

use std::{
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = "/sys/fs/cgroup";

/// A control group with a memory limit. Memory that a process had before it was moved into the
/// group counts elsewhere.
#[derive(Debug)]
pub struct MemoryLimit {
    group: PathBuf,
    /// The file with the line `oom_kill <number>`.
    events: &'static str,
}

impl MemoryLimit {
    /// `None` where this user may not make a control group with a memory limit.
    #[must_use]
    pub fn create(name: &str, bytes: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let name = format!("{name}-{}", std::process::id());
        // Version 1 has a hierarchy of its own for memory. In version 2, only a group without
        // processes may have limited children.
        let version_1 = own.lines().find_map(|line| line.split_once(":memory:"));
        let (group, limit, events) = match version_1 {
            Some((_, own)) => {
                let group = format!("{ROOT}/memory{own}/{name}");
                (group, "memory.limit_in_bytes", "memory.oom_control")
            }
            None => (format!("{ROOT}/{name}"), "memory.max", "memory.events"),
        };
        let group = PathBuf::from(group);
        fs::create_dir(&group).ok()?;
        let group = Self { group, events };
        let limited = fs::write(group.file(limit), bytes.to_string());
        limited.is_ok().then_some(group)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.group.join(name)
    }

    /// Moves a process into the group.
    pub fn apply_to(&self, pid: u32) {
        fs::write(self.file("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// How many processes the kernel killed at the limit.
    #[must_use]
    pub fn kills(&self) -> u64 {
        let events = fs::read_to_string(self.file(self.events)).unwrap();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.unwrap().parse().unwrap()
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A group with processes can't be removed: after a failed test, they go to the parent.
        let processes = fs::read_to_string(self.file("cgroup.procs")).unwrap_or_default();
        let parent = self.group.parent().unwrap_or(Path::new(ROOT)).join("cgroup.procs");
        for pid in processes.lines() {
            let _ = fs::write(&parent, pid);
        }
        let _ = fs::remove_dir(&self.group);
    }
}
