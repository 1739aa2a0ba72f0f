//! The variables of the caller that the stack's processes inherit.
//!
//! The caller may have exported the settings of another system, for example for `passbook doctor`.
//! With that system's storage, the stack's report-service would delete its files, because the
//! stack's database has no row of them. So a prefix passes on limits and names. It passes on no
//! server, folder or credential: the stack's own setting applies, or the service's default.

use std::{env, ffi::OsStr, net::IpAddr};

use reqwest::Url;

/// Settings that each process inherits: logging, tracing, the issuer of tokens, and the size of
/// batches, workers, threads, pools and streams. The stack itself sets all other addresses and
/// credentials.
const INHERITED: [&str; 22] = [
    "PASSBOOK_LOG",
    "PASSBOOK_LOG_FORMAT",
    "PASSBOOK_WORKER_BATCH",
    "PASSBOOK_WORKERS",
    "PASSBOOK_MESSAGE_PARTS",
    "PASSBOOK_THREADS",
    "PASSBOOK_CUSTOMER_RATE_LIMIT",
    "PASSBOOK_RATE_LIMIT",
    "PASSBOOK_CUSTOMER_BATCH_RATE_LIMIT",
    "PASSBOOK_BATCH_RATE_LIMIT",
    "PASSBOOK_FAILED_TOKEN_LIMIT",
    "PASSBOOK_ADDRESS_CONNECTIONS",
    "PASSBOOK_JWKS_URL",
    "PASSBOOK_JWKS_REFRESH",
    "PASSBOOK_JWKS_FILE",
    "PASSBOOK_JWT_ISSUER",
    "PASSBOOK_JWT_AUDIENCE",
    "PASSBOOK_DATABASE_CONNECTIONS",
    "PASSBOOK_DATABASE_LIFETIME",
    contract::STREAM_STORAGE_VARIABLE,
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_TRACES_SAMPLER_ARG",
];

/// Prefixes of the variables that are settings. All other variables are inherited.
const SETTINGS: [&str; 3] = ["PASSBOOK_", "PG", "OTEL_"];

/// The language model is inherited with its key: it keeps nothing of a system, and only the caller
/// can name one.
const LANGUAGE_MODEL: &str = "PASSBOOK_LLM_";

/// Servers that the stack does not start. They are inherited if they are on this machine: the
/// caller started them for the stack. The renderer's token has no use without its URL.
const OPTIONAL_SERVERS: [&str; 2] =
    ["PASSBOOK_REPORT_RENDERER_URL", "PASSBOOK_REPORT_ALERT_WEBHOOK_URL"];

/// The address of the object storage and its credentials.
const OBJECT_STORAGE: &str = "PASSBOOK_REPORT_S3_";

/// Endings of settings that name a server, a storage, a folder or a credential. They cover new
/// settings of this kind.
const ENDINGS: [&str; 4] = ["_URL", "_DIR", "_KEY", "_PASSWORD"];

/// Whether a process whose inherited settings begin with one of these prefixes inherits this
/// variable of the caller.
pub(crate) fn is_inherited(variable: &str, value: &OsStr, prefixes: &[&str]) -> bool {
    !begins_with(variable, &SETTINGS)
        || INHERITED.contains(&variable)
        || overrides(variable, value, prefixes)
}

/// Whether this variable of the caller has one of the prefixes and is inherited. It then replaces
/// the value that the stack sets.
pub(crate) fn overrides(variable: &str, value: &OsStr, prefixes: &[&str]) -> bool {
    begins_with(variable, prefixes) && !is_foreign(variable, value)
}

/// The names of the caller's variables that have one of the prefixes and are not inherited.
pub(crate) fn withheld(prefixes: &[&str]) -> Vec<String> {
    let variables = env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        (begins_with(&name, prefixes) && is_foreign(&name, &value)).then_some(name)
    });
    let mut withheld: Vec<_> = variables.collect();
    withheld.sort_unstable();
    withheld
}

fn begins_with(variable: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| variable.starts_with(prefix))
}

/// Whether a setting can name a part of another system, or hold its credential.
fn is_foreign(variable: &str, value: &OsStr) -> bool {
    if variable.starts_with(LANGUAGE_MODEL) {
        return false;
    }
    if OPTIONAL_SERVERS.contains(&variable) {
        return !is_on_this_machine(value);
    }
    variable.starts_with(OBJECT_STORAGE) || ENDINGS.iter().any(|ending| variable.ends_with(ending))
}

fn is_on_this_machine(url: &OsStr) -> bool {
    let url = url.to_str().and_then(|url| Url::parse(url).ok());
    let Some(host) = url.as_ref().and_then(Url::host_str) else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{ACCOUNT, REPORT, SERVICES, Service, WEBHOOKS};

    fn inherits(service: &Service, variable: &str, value: &str) -> bool {
        is_inherited(variable, OsStr::new(value), service.inherited_prefixes)
    }

    #[test]
    fn no_service_inherits_a_part_of_another_system() {
        for variable in [
            "PASSBOOK_ACCOUNT_DATABASE_URL",
            "PASSBOOK_DATABASE_URL",
            "PASSBOOK_LEDGER_URL",
            "PASSBOOK_NATS_PASSWORD",
            "PASSBOOK_NATS_URL",
            "PASSBOOK_REPORT_ACCOUNTS_URL",
            "PASSBOOK_REPORT_ALERT_WEBHOOK_URL",
            "PASSBOOK_REPORT_DATABASE_URL",
            "PASSBOOK_REPORT_LEDGER_URL",
            "PASSBOOK_REPORT_OWNER_PASSWORD",
            "PASSBOOK_REPORT_RENDERER_URL",
            "PASSBOOK_REPORT_S3_ACCESS_KEY_ID",
            "PASSBOOK_REPORT_S3_ALLOW_HTTP",
            "PASSBOOK_REPORT_S3_CA",
            "PASSBOOK_REPORT_S3_ENDPOINT",
            "PASSBOOK_REPORT_S3_REGION",
            "PASSBOOK_REPORT_S3_SECRET_ACCESS_KEY",
            "PASSBOOK_REPORT_SCRATCH_DIR",
            "PASSBOOK_REPORT_SIGNING_KEY",
            "PASSBOOK_REPORT_STORAGE_URL",
            "PASSBOOK_WEBHOOK_SERVICE_PASSWORD",
            "PGHOST",
            "PGPASSWORD",
        ] {
            for service in SERVICES {
                let inherited = inherits(service, variable, "https://passbook.example/");
                assert!(!inherited, "{}: {variable}", service.name);
            }
        }
    }

    #[test]
    fn a_service_inherits_its_limits_and_servers_of_this_machine() {
        for (service, variable, value) in [
            (&ACCOUNT, "PASSBOOK_RATE_LIMIT", "10"),
            (&ACCOUNT, "PASSBOOK_JWKS_URL", "https://issuer.example/keys"),
            (&ACCOUNT, "HOME", "/root"),
            (&REPORT, "PASSBOOK_REPORT_CLEANUP_EVERY", "1s"),
            (&REPORT, "PASSBOOK_REPORT_ISSUER", "A bank"),
            (&REPORT, "PASSBOOK_REPORT_STREAM", "documents"),
            (&REPORT, "PASSBOOK_REPORT_STORAGE_TIMEOUT", "5s"),
            (&REPORT, "PASSBOOK_REPORT_RENDERER_URL", "http://127.0.0.1:4000/"),
            (&REPORT, "PASSBOOK_REPORT_RENDERER_URL", "http://[::1]:4000/"),
            (&REPORT, "PASSBOOK_REPORT_ALERT_WEBHOOK_URL", "https://localhost/"),
            (&REPORT, "PASSBOOK_LLM_BASE_URL", "https://model.example/v1"),
            (&REPORT, "PASSBOOK_LLM_API_KEY", "a-key"),
            (&WEBHOOKS, "PASSBOOK_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.1/32"),
            (&WEBHOOKS, "PASSBOOK_WEBHOOK_SECRET_KEYS", "a-key"),
        ] {
            assert!(inherits(service, variable, value), "{}: {variable}", service.name);
        }
        for (service, variable) in [
            (&ACCOUNT, "PASSBOOK_REPORT_CLEANUP_EVERY"),
            (&REPORT, "PASSBOOK_WEBHOOK_TIMEOUT"),
            (&WEBHOOKS, "PASSBOOK_LLM_API_KEY"),
        ] {
            assert!(!inherits(service, variable, "1s"), "{}: {variable}", service.name);
        }
    }

    #[test]
    fn a_server_is_on_this_machine_only_by_its_host() {
        for url in [
            "http://127.0.0.1.example/",
            "http://localhost.example/",
            "http://localhost@passbook.example/",
            "http://10.0.0.1/127.0.0.1",
            "http://report-renderer:80/",
            "127.0.0.1",
            "",
        ] {
            assert!(!inherits(&REPORT, "PASSBOOK_REPORT_RENDERER_URL", url), "{url}");
        }
    }
}
