//! Writes the requests of a run as bytes.

use std::io::Write;

use crate::{
    Target, WaitFor,
    sampler::{MovementKind, SampledMovement},
};

/// Amount of a deposit, in the account's currency.
pub(crate) const DEPOSIT: &str = "100";
/// Amount of a withdrawal: a hundredth of a deposit.
const WITHDRAWAL: &str = "1";
/// Amount of an overdraft: nine tenths of the balance limit.
const OVERDRAFT: &str = "900000000000000000";

/// Writes requests with common headers.
#[derive(Debug, Clone)]
pub(crate) struct RequestWriter {
    /// The common prefix of all idempotency keys.
    pub(crate) key_prefix: String,
    headers: String,
    prefer: &'static str,
}

impl RequestWriter {
    pub(crate) fn new(target: &Target, wait_for: WaitFor) -> Self {
        let Target { host, token, .. } = target;
        let headers = format!(
            " HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n"
        );
        let prefer = match wait_for {
            WaitFor::Accepted => "",
            WaitFor::Settled => "prefer: wait=10\r\n",
        };
        Self { key_prefix: format!("load-{:08x}-", rand::random::<u32>()), headers, prefer }
    }

    /// One deposit or withdrawal with a new idempotency key.
    pub(crate) fn movement(&self, buffer: &mut Vec<u8>, movement: SampledMovement<'_>) {
        let Self { headers, prefer, .. } = self;
        let SampledMovement { account, kind } = movement;
        let (resource, amount) = match kind {
            MovementKind::Deposit => ("deposits", DEPOSIT),
            MovementKind::Withdrawal => ("withdrawals", WITHDRAWAL),
            MovementKind::Overdraft => ("withdrawals", OVERDRAFT),
        };
        let (key, length) = (self.key(), amount.len() + r#"{"amount":""}"#.len());
        buffer.clear();
        write(
            buffer,
            format_args!(
                "POST /v1/accounts/{account}/{resource}{headers}{prefer}idempotency-key: {key}\r\n\
                 content-length: {length}\r\n\r\n{{\"amount\":\"{amount}\"}}"
            ),
        );
    }

    /// Several movements in one request, each with a new idempotency key.
    pub(crate) fn batch<'a>(
        &self,
        buffer: &mut Vec<u8>,
        movements: impl Iterator<Item = SampledMovement<'a>>,
    ) {
        let mut body = Vec::new();
        body.extend_from_slice(b"{\"items\":[");
        for (index, SampledMovement { account, kind }) in movements.enumerate() {
            let (kind, amount) = match kind {
                MovementKind::Deposit => ("DEPOSIT", DEPOSIT),
                MovementKind::Withdrawal => ("WITHDRAWAL", WITHDRAWAL),
                MovementKind::Overdraft => ("WITHDRAWAL", OVERDRAFT),
            };
            let (comma, key) = (if index > 0 { "," } else { "" }, self.key());
            write(
                &mut body,
                format_args!(
                    "{comma}{{\"accountId\":\"{account}\",\"type\":\"{kind}\",\
                     \"amount\":\"{amount}\",\"idempotencyKey\":\"{key}\"}}"
                ),
            );
        }
        body.extend_from_slice(b"]}");
        self.post(buffer, "/v1/batches", &body);
    }

    /// As long as a UUID, the usual key of a client, and in random order.
    fn key(&self) -> String {
        format!("{}{:022x}", self.key_prefix, rand::random::<u128>() >> 40)
    }

    fn post(&self, buffer: &mut Vec<u8>, path: &str, body: &[u8]) {
        let (Self { headers, prefer, .. }, length) = (self, body.len());
        buffer.clear();
        write(buffer, format_args!("POST {path}{headers}{prefer}content-length: {length}\r\n\r\n"));
        buffer.extend_from_slice(body);
    }
}

/// A complete request for the metrics of a process.
pub(crate) const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: passbook\r\n\r\n";

fn write(buffer: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // A write into memory can't fail.
    let _ = buffer.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        let (host, token) = ("h".into(), "t".into());
        Target { replicas: Vec::new(), host, admins: Vec::new(), token, database: None }
    }

    #[test]
    fn a_movement_has_its_content_length_and_its_wait() {
        let movement = SampledMovement { account: "a", kind: MovementKind::Withdrawal };
        let mut bytes = Vec::new();
        RequestWriter::new(&target(), WaitFor::Settled).movement(&mut bytes, movement);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"amount":"1"}"#);
        assert!(head.starts_with("POST /v1/accounts/a/withdrawals HTTP/1.1\r\nhost: "), "{head}");
        assert!(head.contains("\r\nprefer: wait=10\r\nidempotency-key: "), "{head}");
        assert!(head.ends_with("\r\ncontent-length: 14"), "{head}");
    }

    #[test]
    fn a_batch_is_json_with_a_key_for_each_item() {
        let movement = |kind| SampledMovement { account: "a", kind };
        let movements = [MovementKind::Deposit, MovementKind::Overdraft].map(movement);
        let mut bytes = Vec::new();
        RequestWriter::new(&target(), WaitFor::Accepted).batch(&mut bytes, movements.into_iter());
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
