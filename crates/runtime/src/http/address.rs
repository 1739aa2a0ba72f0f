//! The addresses of clients: which of them count as one client, and which proxies may name
//! another one.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::http::{HeaderMap, HeaderName};
use clap::Args;
use ipnet::IpNet;

/// `Forwarded` is not read: a proxy that adds one of the two passes the other on as the client
/// wrote it.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The network of an IPv6 address. A client has all addresses of it.
const IPV6_NETWORK: u128 = u128::MAX << 64;

/// The bounds of each client's address, before the client is known.
#[derive(Debug, Clone, Args)]
pub struct AddressConfig {
    /// Networks of the proxies in front of this service, such as `10.0.0.0/8,fd00::/8`. The client
    /// is the right-most address in X-Forwarded-For that is in none of them. Without any, the header
    /// is ignored, and all clients of a proxy are one.
    #[arg(long, env = "PASSBOOK_TRUSTED_PROXIES", value_parser = TrustedProxies::parse,
          value_name = "NETWORKS", default_value = "", hide_default_value = true)]
    pub trusted_proxies: TrustedProxies,
    /// Maximum requests a second without a valid token or API key from an address, by this replica:
    /// five times as many at once. An IPv6 address counts as its /64. Beyond it, only tokens that were
    /// verified before are served. 0: no limit.
    #[arg(long, env = "PASSBOOK_FAILED_TOKEN_LIMIT", default_value_t = 10, value_name = "A SECOND",
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub failed_token_limit: u32,
    /// Maximum open connections of an address, in percent of all that this replica accepts. Trusted
    /// proxies have no such limit. 100: no limit.
    #[arg(long, env = "PASSBOOK_ADDRESS_CONNECTIONS", default_value_t = 50, value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub address_connections: u8,
}

/// The other end of a connection. It is among the extensions of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// The addresses that count as one client: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ClientNetwork(IpAddr);

impl From<IpAddr> for ClientNetwork {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// The networks of proxies.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Parses networks, or single addresses, with commas between them. An empty text has none.
    ///
    /// # Errors
    /// The part that is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of the client behind this end of a connection. What stands left of a text that is
    /// no address may be invented.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        let mut client = peer.to_canonical();
        while self.contains(client) {
            let Some(address) = hops.next().and_then(hop) else { break };
            client = address;
        }
        client
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| format!("{text:?} is neither a network (10.0.0.0/8) nor an address"))
}

/// One address of the header. Some proxies add the port.
fn hop(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address =
        bare.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_address_is_that_of_ipv4() {
        let client = |text| ClientNetwork::from(address(text));
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("::ffff:192.0.2.1"), client("::ffff:192.0.2.2"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        let proxies = TrustedProxies::parse("10.0.0.0/8, 192.0.2.7,fd00::/8").unwrap();
        for (peer, lines, client) in [
            ("10.1.1.1", &["198.51.100.1"][..], "198.51.100.1"),
            ("::ffff:10.1.1.1", &["198.51.100.1"], "198.51.100.1"),
            // Left of the client stands what it invented.
            ("10.1.1.1", &["1.1.1.1, 198.51.100.1, 192.0.2.7"], "198.51.100.1"),
            ("10.1.1.1", &["1.1.1.1", "198.51.100.1", "10.2.2.2 ,fd00::1"], "198.51.100.1"),
            ("10.1.1.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.1.1.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.1.1.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.1.1.1", &["[2001:db8::1]"], "2001:db8::1"),
            // The peer is no proxy.
            ("192.0.2.8", &["198.51.100.1"], "192.0.2.8"),
            ("2001:db8::2", &["198.51.100.1"], "2001:db8::2"),
            // All are proxies: the first one.
            ("10.1.1.1", &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            ("10.1.1.1", &[], "10.1.1.1"),
            // Malformed: the last proxy that is known.
            ("10.1.1.1", &["198.51.100.1, unknown, 10.2.2.2"], "10.2.2.2"),
            ("10.1.1.1", &["198.51.100.1, "], "10.1.1.1"),
            ("10.1.1.1", &["198.51.100.1, \u{e9}"], "10.1.1.1"),
            ("10.1.1.1", &["198.51.100.1, 10.2.2.2/8"], "10.1.1.1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            headers.append("forwarded", HeaderValue::from_static("for=203.0.113.9"));
            assert_eq!(
                proxies.client(address(peer), &headers),
                address(client),
                "{peer} {lines:?}"
            );
            assert_eq!(
                TrustedProxies::default().client(address(peer), &headers),
                address(peer).to_canonical()
            );
        }
    }

    #[test]
    fn networks_are_parsed_or_refused() {
        assert_eq!(TrustedProxies::parse("").unwrap().0.len(), 0);
        assert!(
            TrustedProxies::parse("::1/128,127.0.0.0/8").unwrap().contains(address("127.9.9.9"))
        );
        for wrong in ["10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/8;fd00::/8"] {
            assert!(TrustedProxies::parse(wrong).unwrap_err().contains("neither"), "{wrong}");
        }
    }
}
