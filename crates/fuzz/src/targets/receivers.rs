//! What a client of the API receives: event streams and webhooks.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use client::{
    sse::{Decoder, Message},
    webhook::Verifier,
};
use ring::hmac;
use serde_json::Value;
use time::OffsetDateTime;

use super::{choice, signing_key, text};

/// The messages of a stream and its last pause, by the HTML standard (section 9.2.6), from its text
/// at once.
fn decode(bytes: &[u8]) -> (Vec<Message>, Option<u64>) {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (mut messages, mut retry) = (Vec::new(), None);
    let (mut message, mut data) = (Message::default(), Vec::new());
    let Some((lines, _incomplete)) = text.rsplit_once('\n') else { return (messages, retry) };
    for line in lines.split('\n') {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        match field {
            "" if line.is_empty() => {
                if !data.is_empty() {
                    messages.push(Message { data: data.join("\n"), ..message.clone() });
                    data.clear();
                }
                message.event.clear();
            }
            "event" => message.event = value.to_owned(),
            "data" => data.push(value.to_owned()),
            "id" if !value.contains('\0') => message.id = value.to_owned(),
            "retry" if is_number => retry = value.parse().ok().or(retry),
            _ => {}
        }
    }
    (messages, retry)
}

/// The first byte is the size of the pieces. Messages are those of the standard, in pieces of any
/// size.
pub(super) fn server_sent_events(input: &[u8]) {
    let Some((size, bytes)) = choice(input) else { return };
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for piece in bytes.chunks(size.max(1)) {
        decoder.push(piece).unwrap();
        messages.extend(std::iter::from_fn(|| decoder.next_message()));
    }
    let (expected, retry) = decode(bytes);
    assert_eq!(messages, expected);
    assert_eq!(decoder.retry().map(|pause| pause.as_millis()), retry.map(u128::from));
}

const SECRET: [u8; 32] = [9; 32];
const NOW: i64 = 1_795_942_800;

/// The bytes of the public key.
fn public_key() -> Vec<u8> {
    let set: Value = serde_json::from_str(&signing_key().jwks()).unwrap();
    URL_SAFE_NO_PAD.decode(set["keys"][0]["x"].as_str().unwrap()).unwrap()
}

/// Lines: id, timestamp and signatures; then the body. An odd first byte signs it. A webhook is
/// accepted if and only if one of its signatures is that of its bytes, and the timestamp is of now.
pub(super) fn webhook_signatures(input: &[u8]) {
    let Some((choice, rest)) = choice(input) else { return };
    if let Some(key) = text(rest) {
        let is_key = |prefix: &str, lengths: std::ops::RangeInclusive<usize>| {
            let bytes = key.strip_prefix(prefix).and_then(|key| STANDARD.decode(key).ok());
            bytes.is_some_and(|bytes| lengths.contains(&bytes.len()))
        };
        let is_key = is_key("whsec_", 24..=64) || is_key("whpk_", 32..=32);
        assert_eq!(Verifier::new(key).is_ok(), is_key, "{key:?}");
    }
    let mut lines = rest.splitn(4, |byte| *byte == b'\n');
    let [id, timestamp, given, body] = [(); 4].map(|()| lines.next().unwrap_or_default());
    let signed = [id, b".", timestamp, b".", body].concat();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    let right = [
        ("v1", hmac::sign(&secret, &signed).as_ref().to_vec()),
        ("v1a", signing_key().sign(&signed)),
    ];
    let (version, signature) = &right[choice / 2 % 2];
    let own = format!("{version},{}", STANDARD.encode(signature));
    let given =
        if choice % 2 == 1 { [given, b" ", own.as_bytes()].concat() } else { given.to_vec() };
    let mut headers = HeaderMap::new();
    for (name, value) in [("id", id), ("timestamp", timestamp), ("signature", &given)] {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        let name = HeaderName::try_from(format!("webhook-{name}")).unwrap();
        headers.insert(name, value);
    }
    let verifier = Verifier::new(&format!("whsec_{}", STANDARD.encode(SECRET))).unwrap();
    let verifier = verifier.or(&format!("whpk_{}", STANDARD.encode(public_key()))).unwrap();
    let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    let is_accepted = verifier.verify(&headers, body, now).is_ok();

    let is_signed = text(&given).unwrap_or_default().split(' ').any(|given| {
        let (version, signature) = given.split_once(',').unwrap_or_default();
        STANDARD.decode(signature).is_ok_and(|bytes| right.contains(&(version, bytes)))
    });
    let sent = text(timestamp).and_then(|text| text.parse::<i64>().ok());
    let is_now = sent.is_some_and(|sent| sent.abs_diff(NOW) <= 300);
    let is_text = [id, timestamp, &given].into_iter().flatten().all(|byte| byte.is_ascii());
    assert_eq!(is_accepted, is_signed && is_now && is_text, "{headers:?}");
    // No timestamp is of the real now.
    assert!(verifier.event(&headers, body).is_err());
    let always = verifier.tolerance(std::time::Duration::MAX);
    if let Ok(event) = always.event(&headers, body) {
        assert!(is_signed);
        assert_eq!(event.id.as_bytes(), id);
    }
}
