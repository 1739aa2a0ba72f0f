//! Routes requests: a path to the pool of a service, and a request to one of
//! the pool's replicas.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::upstream::Upstream;

/// The replicas of one service.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(super) service: &'static str,
    path_prefixes: &'static [&'static str],
    upstreams: Vec<Arc<Upstream>>,
    next: AtomicUsize,
}

impl Pool {
    /// A pool for the paths with one of these prefixes.
    pub(crate) fn new(
        service: &'static str,
        path_prefixes: &'static [&'static str],
        upstreams: impl IntoIterator<Item = Upstream>,
    ) -> Self {
        let upstreams = upstreams.into_iter().map(Arc::new).collect();
        Self { service, path_prefixes, upstreams, next: AtomicUsize::new(0) }
    }

    /// The ready replicas, beginning with another one each time (round-robin).
    /// If none is ready, all replicas: one that shuts down still serves.
    /// Kubernetes, too, sends requests to terminating endpoints if there are
    /// no others.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = &Upstream> {
        let mut ready: Vec<_> =
            self.upstreams.iter().filter(|upstream| upstream.is_ready()).collect();
        if ready.is_empty() {
            ready = self.upstreams.iter().collect();
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(ready.len());
        let count = ready.len();
        ready.into_iter().cycle().skip(first.unwrap_or(0)).take(count).map(AsRef::as_ref)
    }

    /// Length of the longest prefix that matches the path.
    fn matched_length(&self, path: &str) -> Option<usize> {
        let prefixes = self.path_prefixes.iter().filter(|prefix| matches(prefix, path));
        prefixes.map(|prefix| prefix.len()).max()
    }
}

/// Whether the path has this prefix, segment by segment: `/v1/records` is a
/// prefix of `/v1/records/1`, and not of `/v1/records-of`. `/` is a prefix of
/// everything, even of `*`.
fn matches(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// The pools of all services with an API.
#[derive(Debug)]
pub(super) struct Routes(Vec<Pool>);

impl Routes {
    pub(super) fn new(pools: Vec<Pool>) -> Self {
        Self(pools)
    }

    /// The pool with the longest matching prefix.
    pub(super) fn pool(&self, path: &str) -> Option<&Pool> {
        let matching = self.0.iter().filter_map(|pool| Some((pool.matched_length(path)?, pool)));
        matching.max_by_key(|(length, _)| *length).map(|(_, pool)| pool)
    }

    pub(super) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.iter().flat_map(|pool| &pool.upstreams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_matching_prefix_decides_and_unknown_paths_have_a_service_too() {
        let routes = Routes::new(vec![
            Pool::new("accounts", &["/"], []),
            Pool::new("reports", &["/v1/reports", "/v1/templates/"], []),
        ]);
        for (path, service) in [
            ("/v1/accounts/1/records", "accounts"),
            ("/v1/reports", "reports"),
            ("/v1/reports/1/artifacts/pdf", "reports"),
            ("/v1/templates/1", "reports"),
            ("/v1/reports-of-others", "accounts"),
            ("/v1", "accounts"),
            ("/", "accounts"),
            ("*", "accounts"),
        ] {
            assert_eq!(routes.pool(path).unwrap().service, service, "{path}");
        }
    }

    #[test]
    fn ready_replicas_take_turns_and_without_any_all_do() {
        let upstream = |name: &str| Upstream::new(name.into(), String::new(), String::new());
        let pool = Pool::new("accounts", &["/"], ["a", "b", "c"].map(upstream));
        let names = || pool.in_turn().map(|upstream| upstream.name.as_str()).collect::<String>();
        assert_eq!([names(), names(), names(), names()], ["abc", "bca", "cab", "abc"]);
        pool.upstreams[1].set_ready(false);
        assert_eq!([names(), names()], ["ac", "ca"]);
        for upstream in &pool.upstreams {
            upstream.set_ready(false);
        }
        assert_eq!([names(), names()], ["abc", "bca"]);
    }
}
