//! The targets, one file a kind of input.

mod bodies;
mod dead_letters;
mod files;
mod headers;
mod ids;
mod messages;
mod money;
mod proxy;
mod queries;
mod receivers;
mod rendering;
mod reports;
mod tokens;
mod webhooks;

use std::sync::OnceLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use credentials::SigningKey;
use runtime::http::problem::Problem;

use crate::Target;

macro_rules! targets {
    ($($module:ident::$name:ident)*) => {
        /// Every target.
        pub(crate) const ALL: [Target; [$(stringify!($name)),*].len()] =
            [$(Target { name: stringify!($name), run: $module::$name }),*];
    };
}

targets! {
    bodies::api_keys
    bodies::batches
    bodies::labels
    bodies::movements
    dead_letters::dead_letter_pages
    files::file_signatures
    files::heads_files
    headers::entity_tags
    headers::idempotency_keys
    headers::preferences
    headers::ranges
    headers::request_heads
    headers::retry_after
    headers::traceparents
    ids::cursors
    ids::event_ids
    ids::names
    messages::bundles
    messages::commands
    messages::dead_letters
    messages::results
    money::amounts
    proxy::proxy_requests
    proxy::proxy_responses
    queries::audit_queries
    queries::records_queries
    queries::times
    receivers::server_sent_events
    receivers::webhook_signatures
    rendering::render_requests
    reports::periods
    reports::report_requests
    tokens::key_sets
    tokens::tokens
    webhooks::addresses
    webhooks::webhook_changes
    webhooks::webhook_endpoints
    webhooks::webhook_urls
}

/// A key that anyone may know. Inputs of the corpus are signed with it.
fn signing_key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    /// DER prefix of a 32-byte Ed25519 private key (RFC 8410, section 7).
    const PREFIX: [u8; 16] =
        [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    KEY.get_or_init(|| {
        let pkcs8 = [&PREFIX[..], &[7; 32]].concat();
        SigningKey::from_pem(&STANDARD.encode(pkcs8)).unwrap()
    })
}

/// The input as text; `None` if it is none.
fn text(input: &[u8]) -> Option<&str> {
    str::from_utf8(input).ok()
}

/// The first byte, to choose between cases, and the rest.
fn choice(input: &[u8]) -> Option<(usize, &[u8])> {
    input.split_first().map(|(first, rest)| (usize::from(*first), rest))
}

/// A refusal blames the client, names a type of problem, and is not much longer than the input.
fn assert_refusal(problem: &Problem, input: &[u8]) {
    assert!(problem.status().is_client_error(), "{problem:?}");
    let json = serde_json::to_value(problem).unwrap();
    assert!(json["type"].as_str().unwrap().starts_with("/problems/"), "{json}");
    // A name may occur in the detail, as the field, and escaped as a pointer.
    let most = 1000 + 20 * input.len();
    assert!(json.to_string().len() <= most, "{json}");
    for error in json["errors"].as_array().into_iter().flatten() {
        let pointer = error["pointer"].as_str().unwrap_or("#");
        assert!(pointer.starts_with('#') && pointer.is_ascii(), "{json}");
        assert!(!pointer.contains([' ', '"', '<', '\n', '\r']), "{json}");
    }
}

/// Text in one line, such as a label.
fn assert_line(text: &str, most: usize) {
    assert!((1..=most).contains(&text.chars().count()), "{text:?}");
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// 1 to 255 visible ASCII characters.
fn is_visible(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
}
