//! The services of the stack, as one table. Replicas, programs, ports,
//! environment, database URLs, broker users, the proxy's routes and the
//! processes in `stack.json` derive from it.
//!
//! To add a service: give it a database in `database.rs` and a broker user in
//! [`permissions`], add its [`Service`] to `SERVICES`, and set its number of
//! [`Replicas`] in `passbook dev up`.

use std::collections::BTreeMap;

use contract::permissions;

use crate::database::{self, Database};

/// A service, with everything specific to it.
#[derive(Debug)]
pub struct Service {
    /// Also the file name of its program. Its replicas are named `<name>-0`,
    /// `<name>-1` and so on.
    pub(crate) name: &'static str,
    pub(crate) database: &'static Database,
    /// Its user of the broker, from [`permissions`].
    pub(crate) broker_user: &'static str,
    /// The paths of its API: the proxy forwards a request to the service with
    /// the longest matching prefix. A service without any has no API, and only
    /// an admin port.
    pub(crate) path_prefixes: &'static [&'static str],
    /// Settings of this service beside the ones of every service.
    pub(crate) environment: &'static [(&'static str, &'static str)],
}

/// The account-service. It also receives the requests with unknown paths.
pub static ACCOUNT: Service = Service {
    name: "account-service",
    database: &database::ACCOUNT,
    broker_user: permissions::ACCOUNT_SERVICE,
    path_prefixes: &["/"],
    // The proxy notices within 200 ms that a replica is not ready.
    environment: &[("PASSBOOK_DRAIN_DELAY", "1s")],
};

/// The transaction-service.
pub static TRANSACTION: Service = Service {
    name: "transaction-service",
    database: &database::TRANSACTION,
    broker_user: permissions::TRANSACTION_SERVICE,
    path_prefixes: &[],
    environment: &[],
};

pub(crate) static SERVICES: [&Service; 2] = [&ACCOUNT, &TRANSACTION];

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
    fn no_two_services_share_a_name_a_database_or_a_broker_user() {
        for key in [
            |service: &Service| service.name,
            |service: &Service| service.database.name,
            |service: &Service| service.broker_user,
        ] {
            let mut keys: Vec<_> = SERVICES.iter().map(|service| key(service)).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), SERVICES.len(), "{keys:?}");
        }
    }
}
