//! The services' broker users. The client writes the protocol by hand.

mod needs;
mod requests;

use std::time::Duration;

use contract::permissions;
use devstack::Secrets;
use futures::StreamExt;
use serde_json::{Value, json};
use tests::{Stack, broker, client::new_key, raw_nats::RawNats};

use self::{needs::SERVICES, requests::requests};

fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some(one), Some(other)) if one == "*" || one == other => {}
            _ => return false,
        }
    }
}

fn connect(stack: &Stack, user: &str) -> RawNats {
    let nats = stack.file().nats;
    let (_, address) = nats.split_once('@').unwrap();
    let secrets = Secrets::read(&stack.dir).unwrap();
    RawNats::connect(address, user, secrets.nats.of(user).unwrap(), permissions::inbox(user))
}

#[tokio::test]
async fn a_services_broker_credentials_are_good_for_its_needs_only() {
    let stack = Stack::shared().await;
    let mut refused = 0;
    for service in SERVICES {
        let mut client = connect(stack, service.user);
        for request in requests() {
            if service.publish.iter().any(|need| matches(need, &request)) {
                continue;
            }
            let answer = client.publish(&request, "", "{}").unwrap_or_default();
            let expected = format!("permissions violation for publish to \"{request}\"");
            assert!(
                answer.to_lowercase().contains(&expected.to_lowercase()),
                "{}: {request}: {answer:?}",
                service.user
            );
            refused += 1;
        }
        for subject in [
            ">",
            "*",
            "transaction.>",
            "transaction.deposit",
            "transaction.result.deposit",
            "dead-letter.>",
            "message.process",
            "account.settled",
            "_INBOX.>",
            "_INBOX_operator.>",
            "_INBOX_auditor.>",
            "_INBOX_another.>",
            "_R_.>",
            "$JS.>",
            "$JS.API.>",
            "$JS.ACK.>",
            "$SYS.>",
            "$JS.EVENT.>",
        ] {
            let answer = client.subscribe(subject).unwrap_or_default();
            let is_refused = answer.contains("Permissions Violation for Subscription");
            assert_eq!(
                is_refused,
                !service.subscribe.contains(&subject),
                "{}: {subject}",
                service.user
            );
        }
    }
    assert!(refused > 400, "{refused}");
}

/// The text of an error with this number, in an answer of JetStream.
fn is_error(answer: &str, code: u64) -> bool {
    let answer: Value = serde_json::from_str(answer.trim()).unwrap();
    answer["error"]["err_code"] == code
}

#[tokio::test]
async fn a_service_changes_no_stream_and_makes_no_push_consumer() {
    let stack = Stack::shared().await;
    let operator = broker::connect(stack).await;
    for service in SERVICES {
        let mut client = connect(stack, service.user);
        let (stream, consumer, filter) = service.consumer;
        for name in [stream, "DEAD_LETTER"] {
            let found = serde_json::to_value(broker::stream(&operator, name).await.config).unwrap();
            for (field, value) in [
                ("republish", json!({ "src": ">", "dest": "$JS.API.STREAM.PURGE.DEAD_LETTER.>" })),
                ("subjects", json!(["_INBOX_operator.>"])),
                ("max_msgs", json!(1)),
                ("max_bytes", json!(1)),
                ("max_age", json!(1_000_000_000)),
                ("sources", json!([{ "name": "TRANSACTION" }])),
                ("deny_delete", json!(true)),
            ] {
                let mut changed = found.clone();
                changed[field] = value;
                let request = format!("$JS.API.STREAM.CREATE.{name}");
                let answer = client.request(&request, &changed.to_string());
                // Another stream has the subjects, or the stream has another configuration.
                let answer: Value = serde_json::from_str(answer.trim()).unwrap();
                assert!(answer["error"]["code"].is_u64(), "{}: {field}: {answer}", service.user);
            }
            let after = serde_json::to_value(broker::stream(&operator, name).await.config).unwrap();
            assert_eq!(after, found, "{}", service.user);
        }
        let create = format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}.{filter}");
        let config = |changes: Value| {
            let mut config = json!({
                "name": consumer, "durable_name": consumer, "ack_policy": "explicit",
                "filter_subject": filter,
            });
            config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            json!({ "stream_name": stream, "config": config }).to_string()
        };
        for (changes, code) in [
            // Push instead of pull.
            (json!({ "deliver_subject": "_INBOX_operator.any" }), 10012),
            // A name or filter other than in the request's subject.
            (json!({ "name": "planted", "durable_name": "planted" }), 10017),
            (json!({ "filter_subject": "another" }), 10131),
        ] {
            let answer = client.request(&create, &config(changes));
            assert!(is_error(&answer, code), "{}: {code}: {answer}", service.user);
        }
    }
}

/// nats-server does not check whether a requester may publish to the reply subject.
#[tokio::test]
async fn the_answers_to_a_service_reach_no_stream_and_no_other_user() {
    let stack = Stack::shared().await;
    let operator = broker::connect(stack).await;
    let mut published = operator.client().subscribe(">").await.unwrap();
    operator.client().flush().await.unwrap();
    let marks: Vec<_> = SERVICES.iter().map(|_| new_key()).collect();
    for (service, mark) in SERVICES.iter().zip(&marks) {
        let mut client = connect(stack, service.user);
        let (stream, consumer, _) = service.consumer;
        let fetched = format!("USED_UP.{}", service.advisories);
        let dead_letter = format!("dead-letter.{stream}.{consumer}.{mark}");
        // Each service may publish to one of the first three.
        for reply in [
            "transaction.result.deposit",
            "transaction.deposit",
            "message.process",
            "dead-letter.planted.any",
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION.deposit-consumer",
            "$JS.API.STREAM.PURGE.DEAD_LETTER",
            "_INBOX_operator.any",
        ] {
            // What the service may publish itself, its answers may reach as well.
            if service.publish.iter().any(|need| matches(need, reply)) {
                continue;
            }
            for (request, body) in [
                ("$JS.API.INFO".to_owned(), ""),
                (format!("$JS.API.STREAM.INFO.{stream}"), ""),
                (format!("$JS.API.STREAM.MSG.GET.{stream}"), "{\"seq\":1}"),
                (format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"), ""),
                // 404: no message now.
                (format!("$JS.API.CONSUMER.MSG.NEXT.{fetched}"), "{\"batch\":1,\"no_wait\":true}"),
                (format!("$JS.ACK.{fetched}.1.1.1.1.1"), "+ACK"),
                // The PubAck.
                (dead_letter.clone(), "an intruder's"),
            ] {
                assert_eq!(client.publish(&request, reply, body), None, "{request} {reply}");
            }
        }
    }
    // The last messages.
    let mut seen = vec![0; marks.len()];
    while seen.iter().any(|seen| *seen < 6) {
        let next = tokio::time::timeout(Duration::from_secs(10), published.next()).await;
        let message = next.unwrap().unwrap();
        for (seen, mark) in seen.iter_mut().zip(&marks) {
            *seen += usize::from(message.subject.ends_with(mark.as_str()));
        }
        let body = String::from_utf8_lossy(&message.payload);
        let is_answer = body.contains("io.nats.jetstream.api") || body.starts_with("{\"stream\":");
        // The inboxes of the operator, and the server's own messages about requests.
        let is_elsewhere = ["_INBOX.", "_R_", "$JS.EVENT.ADVISORY.API"]
            .iter()
            .any(|prefix| message.subject.starts_with(prefix));
        assert!(!is_answer || is_elsewhere, "{}: {body}", message.subject);
    }
}
