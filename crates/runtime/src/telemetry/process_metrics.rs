//! The process's own metrics from `/proc`, under the standard names of
//! Prometheus client libraries. Read at each scrape; Linux only.
//!
//! Written by hand: the crate `metrics-process` adds 27 crates to the lock file,
//! and counts processor time in whole seconds only.

use std::{fmt::Write, fs, time::Duration};

/// The unit of times in `/proc` (USER_HZ), on every supported architecture.
const TICKS_PER_SECOND: u64 = 100;

/// Renders the metrics in the text format of Prometheus. A metric is left out if
/// `/proc` does not provide its value.
#[must_use]
pub fn render() -> String {
    let mut text = String::new();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let mut add = |name: &str, kind: &str, help: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(
                text,
                "# HELP process_{name} {help}\n# TYPE process_{name} {kind}\nprocess_{name} {value}\n"
            );
        }
    };
    let help = "Processor time, user and kernel.";
    add("cpu_seconds_total", "counter", help, cpu(&stat).map(seconds));
    add("start_time_seconds", "gauge", "Start time of the process.", start(&stat).map(seconds));
    add("resident_memory_bytes", "gauge", "Memory in use.", kibibytes(&status, "VmRSS:"));
    add("virtual_memory_bytes", "gauge", "Memory mapped.", kibibytes(&status, "VmSize:"));
    add("threads", "gauge", "Threads.", value(&status, "Threads:"));
    let open = fs::read_dir("/proc/self/fd").ok().map(|files| files.count().to_string());
    add("open_fds", "gauge", "Open file descriptors.", open);
    add("max_fds", "gauge", "Maximum open file descriptors.", value(&limits, "Max open files"));
    text
}

fn seconds(time: Duration) -> String {
    time.as_secs_f64().to_string()
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1000 / TICKS_PER_SECOND))
}

/// A field of `/proc/self/stat`, by its number in proc(5). Field 2 is the
/// program's name and may contain spaces and brackets.
fn field(stat: &str, number: usize) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu(stat: &str) -> Option<Duration> {
    Some(ticks(field(stat, 14)?.checked_add(field(stat, 15)?)?))
}

/// Start time since 1970. `/proc` has the boot time in whole seconds, so the value is
/// the same at every scrape.
fn start(stat: &str) -> Option<Duration> {
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let booted = value(&machine, "btime")?.parse().ok()?;
    Duration::from_secs(booted).checked_add(ticks(field(stat, 22)?))
}

fn value(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let value = line.split_whitespace().next()?;
    value.parse::<u64>().ok().map(|number| number.to_string())
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
    fn a_program_name_may_contain_brackets() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 900 0 0";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(field(stat, 22), Some(900));
        assert_eq!(field("", 14), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn all_metrics_are_rendered() {
        let text = render();
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 7, "{text}");
        let begun = text.lines().find_map(|line| line.strip_prefix("process_start_time_seconds "));
        let begun = Duration::from_secs_f64(begun.unwrap().parse().unwrap());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(now.abs_diff(begun) < Duration::from_secs(3600), "{text}");
    }
}
