//! Telemetry: logs, metrics, traces and their export.

pub mod logs;
pub mod metrics;
pub mod otlp;
pub mod process_metrics;
pub mod trace;
