//! Processor time and memory of a stack's processes, from the kernel.

use std::{collections::BTreeMap, fs};

use devstack::StackFile;

use crate::runs::number;

/// `/proc` gives processor time in hundredths of a second on all supported
/// architectures.
const TICKS_PER_SECOND: f64 = 100.0;

/// The name of the stack's own process, which contains the proxy.
pub(crate) const SUPERVISOR: &str = "supervisor";

/// User and kernel time of each process in seconds, of the supervisor also. The
/// children of a server count as part of it.
pub(crate) fn processor_seconds(file: &StackFile) -> BTreeMap<String, f64> {
    let children: Vec<Stat> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect();
    let supervisor = stat(file.supervisor).map_or(0, |stat| stat.own);
    let seconds = |pid: u32| {
        let own = stat(pid).map_or(0, |stat| stat.own + stat.ended_children);
        let living = children.iter().filter(|stat| stat.parent == pid).map(|stat| stat.own);
        number(own + living.sum::<u64>()) / TICKS_PER_SECOND
    };
    let processes =
        file.processes.iter().map(|process| (process.name.clone(), seconds(process.pid)));
    let supervisor = (SUPERVISOR.to_owned(), number(supervisor) / TICKS_PER_SECOND);
    processes.chain([supervisor]).collect()
}

struct Stat {
    /// Process id of the parent.
    parent: u32,
    /// Processor time in ticks.
    own: u64,
    /// Processor time of ended children, in ticks.
    ended_children: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses proc_pid_stat(5). The second field is a name and may contain anything.
fn parse(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let ticks = |from: usize| {
        fields.iter().skip(from).take(2).map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()
    };
    let parent = fields.get(1)?.parse().ok()?;
    Some(Stat { parent, own: ticks(11)?, ended_children: ticks(13)? })
}

/// The peak resident memory of each service, in MiB.
pub(crate) fn peak_memory(file: &StackFile) -> BTreeMap<String, f64> {
    let peak = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let services = file.processes.iter().filter(|process| process.admin.is_some());
    services
        .filter_map(|process| Some((process.name.clone(), number(peak(process.pid)?) / 1024.0)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_parsed_with_any_process_name() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 100 20 30 4 20 0 1 0 5 6 7";
        let stat = parse(line).unwrap();
        assert_eq!((stat.parent, stat.own, stat.ended_children), (3, 120, 34));
        assert!(parse("7 (a) S").is_none());
    }
}
