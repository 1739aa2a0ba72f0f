//! The services of the stack, as one table. Replicas, programs, ports,
//! environment, database URLs, broker users, the proxy's routes and the
//! processes in `stack.json` derive from it.
//!
//! To add a service: give it a database in `database.rs` and, if it uses the
//! broker, a user in [`permissions`], add its [`Service`] to `SERVICES`, and set its number of
//! [`Replicas`] in `passbook dev up`.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use contract::permissions;

use crate::{
    database::{self, Database},
    postgres::Postgres,
    report_service,
    secrets::Secrets,
};

/// The parts of a stack from which a service's own settings derive.
#[derive(Clone, Copy)]
pub(crate) struct StackParts<'a> {
    /// The server as the replica reaches it.
    pub(crate) postgres: &'a Postgres,
    pub(crate) secrets: &'a Secrets,
    /// The stack's folder.
    pub(crate) dir: &'a Path,
}

/// The environment variables of a process.
pub(crate) type Environment = Vec<(&'static str, String)>;

/// A service, with everything specific to it.
#[derive(Debug)]
pub struct Service {
    /// Also the file name of its program. Its replicas are named `<name>-0`,
    /// `<name>-1` and so on.
    pub(crate) name: &'static str,
    pub(crate) database: &'static Database,
    /// Its user of the broker, from [`permissions`]. `None`: it does not use
    /// the broker.
    pub(crate) broker_user: Option<&'static str>,
    /// The paths of its API: the proxy forwards a request to the service with
    /// the longest matching prefix. A service without any has no API, and only
    /// an admin port.
    pub(crate) path_prefixes: &'static [&'static str],
    /// Settings of this service beside the ones of every service.
    pub(crate) environment: fn(StackParts<'_>) -> Result<Environment>,
    /// Prefixes of the variables that this service inherits from the caller of
    /// the stack. They override the ones above, unless `inheritance` withholds
    /// them: they may name a part of another system.
    pub(crate) inherited_prefixes: &'static [&'static str],
}

/// The proxy notices within 200 ms that a replica is not ready.
pub(crate) const DRAIN_DELAY: (&str, &str) = ("PASSBOOK_DRAIN_DELAY", "1s");

/// The account-service. It also receives the requests with unknown paths.
pub static ACCOUNT: Service = Service {
    name: "account-service",
    database: &database::ACCOUNT,
    broker_user: Some(permissions::ACCOUNT_SERVICE),
    path_prefixes: &["/"],
    environment: |StackParts { postgres, secrets, .. }| {
        let ledger = postgres.ledger_reader_url(secrets)?;
        Ok(vec![(DRAIN_DELAY.0, DRAIN_DELAY.1.to_owned()), ("PASSBOOK_LEDGER_URL", ledger)])
    },
    inherited_prefixes: &[],
};

/// The transaction-service.
pub static TRANSACTION: Service = Service {
    name: "transaction-service",
    database: &database::TRANSACTION,
    broker_user: Some(permissions::TRANSACTION_SERVICE),
    path_prefixes: &[],
    environment: |_| Ok(Vec::new()),
    inherited_prefixes: &[],
};

/// The report-service. The caller's settings of reports and of the language
/// model reach this service only: they can contain credentials.
pub static REPORT: Service = Service {
    name: "report-service",
    database: &database::REPORT,
    broker_user: Some(permissions::REPORT_SERVICE),
    path_prefixes: &["/v1/reports"],
    environment: report_service::environment,
    inherited_prefixes: &["PASSBOOK_REPORT_", "PASSBOOK_LLM_"],
};

/// The webhook-service. On this machine it delivers to receivers of this
/// machine too, and without TLS.
pub static WEBHOOKS: Service = Service {
    name: "webhook-service",
    database: &database::WEBHOOKS,
    broker_user: None,
    path_prefixes: &["/v1/webhook-endpoints"],
    environment: |StackParts { secrets, .. }| {
        Ok(vec![
            (DRAIN_DELAY.0, DRAIN_DELAY.1.to_owned()),
            ("PASSBOOK_WEBHOOK_SECRET_KEYS", secrets.webhook_secret_key()?.to_owned()),
            ("PASSBOOK_WEBHOOK_ALLOW_HTTP", "true".to_owned()),
            ("PASSBOOK_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8,::1/128".to_owned()),
        ])
    },
    inherited_prefixes: &["PASSBOOK_WEBHOOK_"],
};

pub(crate) static SERVICES: [&Service; 4] = [&ACCOUNT, &TRANSACTION, &REPORT, &WEBHOOKS];

impl Service {
    pub(crate) fn has_api(&self) -> bool {
        !self.path_prefixes.is_empty()
    }
}

/// The number of replicas of each service. A service without a number has no
/// replicas.
#[derive(Debug, Clone)]
pub struct Replicas(BTreeMap<&'static str, u16>);

impl<const N: usize> From<[(&'static Service, u16); N]> for Replicas {
    fn from(counts: [(&'static Service, u16); N]) -> Self {
        Self(counts.into_iter().map(|(service, count)| (service.name, count)).collect())
    }
}

impl Replicas {
    pub(crate) fn of(&self, service: &Service) -> u16 {
        self.0.get(service.name).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_service_and_no_other_receives_unknown_paths() {
        let catch_all = SERVICES.iter().filter(|service| service.path_prefixes.contains(&"/"));
        assert_eq!(catch_all.count(), 1);
    }

    #[test]
    fn no_two_services_share_a_name_a_role_or_a_broker_user() {
        for key in [
            |service: &Service| service.name,
            |service: &Service| service.database.role,
            |service: &Service| service.broker_user.unwrap_or("none"),
        ] {
            let mut keys: Vec<_> = SERVICES.iter().map(|service| key(service)).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), SERVICES.len(), "{keys:?}");
        }
    }
}
