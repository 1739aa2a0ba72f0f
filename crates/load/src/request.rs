//! The bytes of requests.

use std::io::Write;

use crate::{
    Answer,
    choice::{Direction, Movement},
};

/// Deposited, in the account's currency.
const DEPOSIT: &str = "100";
/// Withdrawn where it may be: a hundredth of a deposit.
const WITHDRAWAL: &str = "1";
/// Withdrawn where it may not: nine tenths of the most that an account can hold.
const TOO_MUCH: &str = "900000000000000000";

/// Writes requests, with what all of them have in common.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    /// What the keys of all of them begin with.
    pub(crate) keys: String,
    headers: String,
    prefer: &'static str,
}

impl Requests {
    pub(crate) fn new(token: &str, answer: Answer) -> Self {
        let headers = format!(
            " HTTP/1.1\r\nhost: passbook\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n"
        );
        let prefer = match answer {
            Answer::Accepted => "",
            Answer::Settled => "prefer: wait=10\r\n",
        };
        Self { keys: format!("load-{:08x}-", rand::random::<u32>()), headers, prefer }
    }

    /// One deposit or withdrawal, under a key of its own.
    pub(crate) fn movement(&self, into: &mut Vec<u8>, movement: Movement<'_>) {
        let Self { headers, prefer, .. } = self;
        let Movement { account, direction } = movement;
        let (resource, amount) = match direction {
            Direction::In => ("deposits", DEPOSIT),
            Direction::Out => ("withdrawals", WITHDRAWAL),
            Direction::TooMuch => ("withdrawals", TOO_MUCH),
        };
        let (key, length) = (self.key(), amount.len() + r#"{"amount":""}"#.len());
        into.clear();
        write(
            into,
            format_args!(
                "POST /v1/accounts/{account}/{resource}{headers}{prefer}idempotency-key: {key}\r\n\
                 content-length: {length}\r\n\r\n{{\"amount\":\"{amount}\"}}"
            ),
        );
    }

    /// Several of them in one request.
    pub(crate) fn batch<'a>(
        &self,
        into: &mut Vec<u8>,
        movements: impl Iterator<Item = Movement<'a>>,
    ) {
        let mut body = Vec::new();
        body.extend_from_slice(b"{\"items\":[");
        for (at, Movement { account, direction }) in movements.enumerate() {
            let (kind, amount) = match direction {
                Direction::In => ("DEPOSIT", DEPOSIT),
                Direction::Out => ("WITHDRAWAL", WITHDRAWAL),
                Direction::TooMuch => ("WITHDRAWAL", TOO_MUCH),
            };
            let (comma, key) = (if at > 0 { "," } else { "" }, self.key());
            write(
                &mut body,
                format_args!(
                    "{comma}{{\"accountId\":\"{account}\",\"type\":\"{kind}\",\
                     \"amount\":\"{amount}\",\"idempotencyKey\":\"{key}\"}}"
                ),
            );
        }
        body.extend_from_slice(b"]}");
        self.post(into, "/v1/batches", &body);
    }

    /// A new account.
    pub(crate) fn account(&self, into: &mut Vec<u8>) {
        self.post(into, "/v1/accounts", br#"{"currency":"KRW"}"#);
    }

    /// As long as the UUIDs that clients use, and in no order.
    fn key(&self) -> String {
        format!("{}{:022x}", self.keys, rand::random::<u128>() >> 40)
    }

    fn post(&self, into: &mut Vec<u8>, path: &str, body: &[u8]) {
        let (Self { headers, prefer, .. }, length) = (self, body.len());
        into.clear();
        write(into, format_args!("POST {path}{headers}{prefer}content-length: {length}\r\n\r\n"));
        into.extend_from_slice(body);
    }
}

/// The counters of one process.
pub(crate) const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: passbook\r\n\r\n";

fn write(into: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing into memory does not fail.
    let _ = into.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_movement_says_its_length_and_its_wait() {
        let movement = Movement { account: "a", direction: Direction::Out };
        let mut bytes = Vec::new();
        Requests::new("t", Answer::Settled).movement(&mut bytes, movement);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"amount":"1"}"#);
        assert!(head.starts_with("POST /v1/accounts/a/withdrawals HTTP/1.1\r\nhost: "), "{head}");
        assert!(head.contains("\r\nprefer: wait=10\r\nidempotency-key: "), "{head}");
        assert!(head.ends_with("\r\ncontent-length: 14"), "{head}");
    }

    #[test]
    fn a_batch_is_json_with_a_key_for_each_item() {
        let movement = |direction| Movement { account: "a", direction };
        let movements = [Direction::In, Direction::TooMuch].map(movement);
        let mut bytes = Vec::new();
        Requests::new("t", Answer::Accepted).batch(&mut bytes, movements.into_iter());
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let [one, two] = body["items"].as_array().unwrap().as_slice() else { panic!("{body}") };
        assert_eq!((&one["type"], &one["amount"]), (&"DEPOSIT".into(), &"100".into()));
        assert_eq!(two["type"], "WITHDRAWAL");
        assert_ne!(one["idempotencyKey"], two["idempotencyKey"]);
    }
}
