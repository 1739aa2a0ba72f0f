//! States and children of processes, as the system reports them. On systems
//! without `/proc`, a process counts as neither frozen nor a zombie, and has no
//! known children.

use std::fs;

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

/// Whether the process exists, under any user. A zombie is not alive: it has
/// ended, and its parent has not waited for it yet.
#[must_use]
pub fn alive(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH))
        && !has_state(pid, 'Z')
}

/// Whether SIGSTOP stopped the process.
pub(crate) fn is_frozen(pid: u32) -> bool {
    has_state(pid, 'T')
}

pub(crate) fn children(pid: u32) -> Vec<u32> {
    let pids = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn has_state(pid: u32, state: char) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name in parentheses, and the name may contain any character.
    stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with(state))
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_zombie_is_not_alive() {
        assert!(alive(std::process::id()));
        let mut child = Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while alive(child.id()) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(20));
        }
        child.wait().unwrap();
    }
}
