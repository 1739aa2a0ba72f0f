//! Webhook endpoints: their URLs, and the addresses behind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::Uri;
use webhook_service::{
    address::{AddressGuard, Network},
    http::{UrlRules, parse_change, parse_endpoint},
};

use super::{assert_refusal, choice, text};

fn rules(allow_http: bool) -> UrlRules<'static> {
    const GUARD: &AddressGuard = &AddressGuard { allowed: Vec::new() };
    UrlRules { guard: GUARD, allow_http }
}

/// Whether an address belongs to a machine or a network of its own, by the standard library.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            first == 0
                || v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || v4.is_multicast()
                || v4.is_broadcast()
                || first >= 240
                || (first == 100 && second & 0xc0 == 64)
                || (first == 198 && second & 0xfe == 18)
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_private(v4.into()),
            None => is_private_v6(v6),
        },
    }
}

fn is_private_v6(v6: Ipv6Addr) -> bool {
    let [first, second, .., seventh, eighth] = v6.segments();
    if (first, second) == (0x64, 0xff9b) {
        let [a, b] = seventh.to_be_bytes();
        let [c, d] = eighth.to_be_bytes();
        return v6.segments()[2..6] != [0; 4] || is_private(Ipv4Addr::new(a, b, c, d).into());
    }
    v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_unique_local()
        || v6.is_unicast_link_local()
        || v6.is_multicast()
        || first == 0
        || (first == 0x2001 && second == 0xdb8)
        || first == 0x2002
        || first & 0xffc0 == 0xfec0
}

fn assert_url(text: &str, allow_http: bool) {
    assert!(text.len() <= 2048 && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    let lower = text.to_ascii_lowercase();
    let rest = lower.strip_prefix("https://");
    let rest = rest.or_else(|| lower.strip_prefix("http://").filter(|_| allow_http));
    let rest = rest.unwrap_or_else(|| panic!("the scheme of {text:?}"));
    assert!(!text.contains('#'), "{text:?}");
    let authority = rest.split(['/', '?']).next().unwrap();
    assert!(!authority.contains(['@', '\\']) && !authority.is_empty(), "{text:?}");
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if let Some(port) = port {
        let port: u16 = port.parse().unwrap();
        assert!(port == 80 || port == 443 || port >= 1024, "{text:?}");
    }
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    assert!(address.is_none_or(|address| !is_private(address)), "{text:?}");
    // The sender parses it again.
    let uri: Uri = text.parse().unwrap();
    assert!(uri.host().is_some_and(|known| known.eq_ignore_ascii_case(host)), "{text:?}");
}

/// The first byte tells whether `http` is allowed. An accepted URL has an allowed scheme, no
/// password, a harmless port and no private address.
pub(super) fn webhook_urls(input: &[u8]) {
    let Some((choice, rest)) = choice(input) else { return };
    let Some(text) = text(rest) else { return };
    let allow_http = choice % 2 == 1;
    match rules(allow_http).check(text) {
        Ok(()) => assert_url(text, allow_http),
        Err(problem) => assert_refusal(&problem, input),
    }
}

/// An address in bytes or text, or a network. Private addresses are not permitted, in any form.
pub(super) fn addresses(input: &[u8]) {
    let guard = AddressGuard::default();
    let bytes: Option<IpAddr> = match input.len() {
        4 => <[u8; 4]>::try_from(input).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(input).ok().map(IpAddr::from),
        _ => None,
    };
    let address = text(input).and_then(|text| text.parse().ok());
    for address in [bytes, address].into_iter().flatten() {
        assert!(!(guard.permits(address) && is_private(address)), "{address}");
        if let IpAddr::V4(v4) = address {
            assert_eq!(guard.permits(v4.to_ipv6_mapped().into()), guard.permits(address));
        }
    }
    let Some(text) = text(input) else { return };
    let Ok(network) = text.parse::<Network>() else { return };
    let (address, prefix) = text.split_once('/').unwrap();
    let (address, prefix): (IpAddr, u8) = (address.parse().unwrap(), prefix.parse().unwrap());
    assert!(network.contains(address) && prefix <= if address.is_ipv4() { 32 } else { 128 });
    let other: IpAddr = match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() ^ (1 << 31)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() ^ (1 << 127)).into(),
    };
    assert_eq!(network.contains(other), prefix == 0, "{text}");
}

/// The body of a new endpoint.
pub(super) fn webhook_endpoints(input: &[u8]) {
    match parse_endpoint(input, rules(false)) {
        Ok(endpoint) => {
            assert_url(&endpoint.url.unwrap(), false);
            assert_parts(endpoint.description.as_deref(), endpoint.types.as_deref());
            assert!(endpoint.algorithm.is_some());
        }
        Err(problem) => assert_refusal(&problem, input),
    }
}

/// The body of a change.
pub(super) fn webhook_changes(input: &[u8]) {
    match parse_change(input, rules(false)) {
        Ok(change) => {
            if let Some(url) = &change.url {
                assert_url(url, false);
            }
            assert_parts(change.description.as_deref(), change.types.as_deref());
        }
        Err(problem) => assert_refusal(&problem, input),
    }
}

fn assert_parts(description: Option<&str>, types: Option<&[i16]>) {
    assert!(description.is_none_or(|text| text.chars().count() <= 500));
    assert!(description.is_none_or(|text| !text.contains(char::is_control)));
    assert!(types.is_none_or(|types| (1..=3).contains(&types.len()) && types.is_sorted()));
}
