//! The share of the places for connections that one client's address may take.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::address::{AddressConfig, ClientNetwork, TrustedProxies};

/// The connections of each address, at most as many as there are places.
type Open = Mutex<HashMap<ClientNetwork, usize>>;

/// Counts the connections of each address.
#[derive(Debug)]
pub(super) struct AddressPlaces {
    most: usize,
    proxies: TrustedProxies,
    open: Arc<Open>,
}

/// One connection of an address, until it is dropped. Those of trusted proxies are not counted.
#[derive(Debug)]
pub(super) struct AddressPlace(Option<(Arc<Open>, ClientNetwork)>);

impl AddressPlaces {
    /// The share of these places. `None` without a limit.
    pub(super) fn new(config: &AddressConfig, places: usize) -> Option<Self> {
        let percent = usize::from(config.address_connections);
        let most = (places / 100 * percent + places % 100 * percent / 100).max(1);
        let proxies = config.trusted_proxies.clone();
        (percent < 100).then(|| Self { most, proxies, open: Arc::default() })
    }

    /// Counts a connection. `None` if the address has its share already.
    pub(super) fn take(&self, peer: IpAddr) -> Option<AddressPlace> {
        if self.proxies.contains(peer) {
            return Some(AddressPlace(None));
        }
        let client = ClientNetwork::from(peer);
        let mut counts = lock(&self.open);
        let count = counts.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(AddressPlace(Some((Arc::clone(&self.open), client))))
    }
}

impl AddressPlace {
    /// The place of a connection on a port without this limit.
    pub(super) const UNCOUNTED: Self = Self(None);
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let Some((open, client)) = &self.0 else { return };
        let mut counts = lock(open);
        if let Some(count) = counts.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(client);
            }
        }
    }
}

fn lock(open: &Open) -> MutexGuard<'_, HashMap<ClientNetwork, usize>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
