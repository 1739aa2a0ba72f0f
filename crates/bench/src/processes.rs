//! What each process of a stack takes: processor time and memory, as the
//! kernel counts them.

use std::{collections::BTreeMap, fs};

use devstack::StackFile;

use crate::runs::number;

/// The kernel counts processor time for users in hundredths of a second, on
/// every architecture that this runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// Processor time in seconds by process. A server's children count as the
/// server.
pub(crate) fn processor_seconds(file: &StackFile) -> BTreeMap<String, f64> {
    let children: Vec<Stat> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect();
    let of = |pid: u32| {
        let own = stat(pid).map_or(0, |it| it.own + it.ended_children);
        let living = children.iter().filter(|it| it.parent == pid).map(|it| it.own);
        number(own + living.sum::<u64>()) / TICKS_A_SECOND
    };
    file.processes.iter().map(|process| (process.name.clone(), of(process.pid))).collect()
}

struct Stat {
    parent: u32,
    own: u64,
    ended_children: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5). The second field, a name, may hold anything.
fn parse(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let ticks = |from: usize| {
        fields.iter().skip(from).take(2).map(|it| it.parse::<u64>().ok()).sum::<Option<u64>>()
    };
    let parent = fields.get(1)?.parse().ok()?;
    Some(Stat { parent, own: ticks(11)?, ended_children: ticks(13)? })
}

/// The most memory that each service has held at a time, in MiB.
pub(crate) fn peak_memory(file: &StackFile) -> BTreeMap<String, f64> {
    let peak = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let services = file.processes.iter().filter(|it| it.admin.is_some());
    services.filter_map(|it| Some((it.name.clone(), number(peak(it.pid)?) / 1024.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_it_is_called() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 100 20 30 4 20 0 1 0 5 6 7";
        let stat = parse(line).unwrap();
        assert_eq!((stat.parent, stat.own, stat.ended_children), (3, 120, 34));
        assert!(parse("7 (a) S").is_none());
    }
}
