//! What Linux says of this process, under the names that every Prometheus
//! client library gives it. Read at each scrape. On other systems there is
//! nothing of it.
//!
//! Written by hand: the crate `metrics-process` brings 27 others into the lock
//! file, and processor time in whole seconds, as all counters of the crate
//! `metrics` are whole.

use std::{fmt::Write, fs, time::Duration};

/// Of the times in `/proc`, on every architecture that is built for.
const TICKS_PER_SECOND: u64 = 100;

/// In the text format of Prometheus.
#[must_use]
pub fn metrics_text() -> String {
    let mut text = String::new();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let mut tell = |name: &str, kind: &str, help: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(
                text,
                "# HELP process_{name} {help}\n# TYPE process_{name} {kind}\nprocess_{name} {value}\n"
            );
        }
    };
    let help = "Processor time of user and kernel.";
    tell("cpu_seconds_total", "counter", help, cpu(&stat).map(seconds));
    tell("start_time_seconds", "gauge", "When it was started.", start(&stat).map(seconds));
    tell("resident_memory_bytes", "gauge", "Memory in use.", kibibytes(&status, "VmRSS:"));
    tell("virtual_memory_bytes", "gauge", "Memory mapped.", kibibytes(&status, "VmSize:"));
    tell("threads", "gauge", "Threads.", value(&status, "Threads:"));
    let open = fs::read_dir("/proc/self/fd").ok().map(|it| it.count().to_string());
    tell("open_fds", "gauge", "Open file descriptors.", open);
    tell("max_fds", "gauge", "File descriptors at most.", value(&limits, "Max open files"));
    text
}

fn seconds(time: Duration) -> String {
    time.as_secs_f64().to_string()
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1000 / TICKS_PER_SECOND))
}

/// A field of `/proc/self/stat`, by its number in proc(5). The second is the
/// program's name, which may hold anything.
fn field(stat: &str, number: usize) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu(stat: &str) -> Option<Duration> {
    Some(ticks(field(stat, 14)?.checked_add(field(stat, 15)?)?))
}

/// Since 1970. It is stored as a time since the machine was started, which is
/// a whole second: so it is the same at every scrape.
fn start(stat: &str) -> Option<Duration> {
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let booted = value(&machine, "btime")?.parse().ok()?;
    Duration::from_secs(booted).checked_add(ticks(field(stat, 22)?))
}

fn value(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let value = line.split_whitespace().next()?;
    value.parse::<u64>().ok().map(|it| it.to_string())
}

fn kibibytes(status: &str, name: &str) -> Option<String> {
    let kibibytes: u64 = value(status, name)?.parse().ok()?;
    Some((kibibytes * 1024).to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_programs_name_may_hold_anything() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 900 0 0";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(field(stat, 22), Some(900));
        assert_eq!(field("", 14), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn all_of_it_is_told() {
        let text = metrics_text();
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 7, "{text}");
        let begun = text.lines().find_map(|it| it.strip_prefix("process_start_time_seconds "));
        let begun = Duration::from_secs_f64(begun.unwrap().parse().unwrap());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(now.abs_diff(begun) < Duration::from_secs(3600), "{text}");
    }
}
