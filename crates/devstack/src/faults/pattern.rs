//! Patterns for the names of processes and links.

/// Whether a name matches a pattern, in which `*` matches anything.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    name.strip_prefix(start).is_some_and(|end| {
        (0..=end.len()).any(|at| end.get(at..).is_some_and(|end| matches(rest, end)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_anything() {
        for (pattern, name) in [
            ("nats", "nats"),
            ("*", "account-service-0/nats"),
            ("*/nats*", "account-service-0/nats-2"),
            ("transaction-service-*/postgres", "transaction-service-1/postgres"),
            ("a*b*c", "a-b-b-c"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("nats", "nats-0"), ("", "nats"), ("*/nats", "a/nats-1")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
