//! The users of the broker, and what each may do: what its program does, and
//! nothing else. The development stack and the manifests of Kubernetes have the
//! same.

use crate::{
    CONSUMERS, ConsumerSpec, MOVEMENT_STREAMS, Retention, STREAMS, StreamSpec, TRANSACTION,
    TRANSACTION_RESULT, USED_UP, consumers, subjects,
};
use serde_json::{Value, json};

/// Who may do everything: sets streams up, deals with dead letters.
pub const OPERATOR: &str = "operator";
/// Who may look at everything and change nothing: `passbook verify` and
/// `passbook doctor`.
pub const AUDITOR: &str = "auditor";
/// The account-service.
pub const ACCOUNT_SERVICE: &str = "account-service";
/// The transaction-service.
pub const TRANSACTION_SERVICE: &str = "transaction-service";

/// The subjects on which a user gets its answers: nobody else may listen there.
#[must_use]
pub fn inbox(user: &str) -> String {
    format!("_INBOX_{user}")
}

/// The accounts and their users as nats-server's configuration has them.
///
/// An auditor has an account of its own, since a server does not look whether
/// who asks may publish to the subject that the answer is sent to: here it ends
/// in that account, where no stream hears it.
pub fn broker_accounts(password: impl Fn(&str) -> String) -> Value {
    let service = |subject: &String| {
        // Many messages answer a direct get.
        let answers = if subject.contains(".DIRECT.") { "stream" } else { "singleton" };
        json!({ "service": subject, "response_type": answers })
    };
    let import =
        |subject: &String| json!({ "service": { "account": "PASSBOOK", "subject": subject } });
    let (look, (users, auditor)) = (look(), users(password));
    json!({
        "PASSBOOK": {
            "jetstream": "enabled",
            "exports": look.iter().map(service).collect::<Vec<_>>(),
            "users": users,
        },
        "AUDIT": {
            "imports": look.iter().map(import).collect::<Vec<_>>(),
            "users": [auditor],
        },
    })
}

/// Those who work, and the auditor.
fn users(password: impl Fn(&str) -> String) -> (Value, Value) {
    let user = |name: &str, publish: Value, subscribe: &[&str]| {
        let mut subscribe: Vec<_> = subscribe.iter().map(|&it| it.to_owned()).collect();
        subscribe.push(format!("{}.>", inbox(name)));
        let permissions = json!({ "publish": publish, "subscribe": subscribe });
        json!({ "user": name, "password": password(name), "permissions": permissions })
    };
    let work = json!([
        { "user": OPERATOR, "password": password(OPERATOR) },
        user(
            ACCOUNT_SERVICE,
            publish(
                &[subjects::DEPOSIT, subjects::WITHDRAWAL, subjects::SETTLED],
                TRANSACTION_RESULT,
                &[consumers::ACCOUNT_RESULT, consumers::RESULTS_USED_UP],
            ),
            &[subjects::SETTLED],
        ),
        user(
            TRANSACTION_SERVICE,
            publish(
                &[subjects::RESULT_DEPOSIT, subjects::RESULT_WITHDRAWAL],
                TRANSACTION,
                &[consumers::DEPOSIT, consumers::WITHDRAWAL, consumers::COMMANDS_USED_UP],
            ),
            &[],
        ),
    ]);
    (work, user(AUDITOR, json!(look()), &[]))
}

/// What a service publishes: its messages, the dead letters of the stream it
/// reads, and the requests by which it sets up the streams and reads that one
/// through its own consumers.
fn publish(messages: &[&str], reads: &str, through: &[&str]) -> Value {
    let mut allowed: Vec<String> = messages.iter().map(|&subject| subject.to_owned()).collect();
    allowed.push(format!("{}.{reads}.>", subjects::DEAD_LETTER_PREFIX));
    allowed.push(format!("{}.{USED_UP}.>", subjects::DEAD_LETTER_PREFIX));
    allowed.push("$JS.API.INFO".to_owned());
    for stream in MOVEMENT_STREAMS {
        for request in ["CREATE", "UPDATE", "INFO"] {
            allowed.push(format!("$JS.API.STREAM.{request}.{stream}"));
        }
    }
    // A message whose deliveries are used up is looked up, and once it is a dead letter, deleted
    // where it lies in a work queue.
    allowed.push(format!("$JS.API.STREAM.MSG.GET.{reads}"));
    if StreamSpec::named(reads).is_some_and(|it| it.retention == Retention::WorkQueue) {
        allowed.push(format!("$JS.API.STREAM.MSG.DELETE.{reads}"));
    }
    let own = |consumer: &&ConsumerSpec| through.contains(&consumer.name);
    for ConsumerSpec { stream, name, .. } in CONSUMERS.iter().filter(own) {
        let consumer = format!("{stream}.{name}");
        allowed.extend([
            format!("$JS.API.CONSUMER.CREATE.{consumer}"),
            format!("$JS.API.CONSUMER.CREATE.{consumer}.>"),
            format!("$JS.API.CONSUMER.DURABLE.CREATE.{consumer}"),
            format!("$JS.API.CONSUMER.INFO.{consumer}"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}"),
            // Acks come in two forms: the second names domain and account.
            format!("$JS.ACK.{consumer}.>"),
            format!("$JS.ACK.*.*.{consumer}.>"),
        ]);
    }
    json!(allowed)
}

/// What an auditor asks for: how streams and consumers are, and messages, one
/// or many at a time. No consumers: who may make one may let it deliver into
/// any stream.
fn look() -> Vec<String> {
    let mut allowed = ["INFO", "STREAM.INFO.*", "STREAM.MSG.GET.*", "CONSUMER.INFO.*.*"]
        .map(|request| format!("$JS.API.{request}"))
        .to_vec();
    let readable = STREAMS.iter().filter(|it| it.retention == Retention::Limits);
    allowed.extend(readable.map(|stream| format!("$JS.API.DIRECT.GET.{}", stream.name)));
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../k8s/components/nats/accounts.conf");
    const HEAD: &str = "\
# The accounts of the broker, their users and what each may do, as crates/contract/src/permissions.rs has them:
# PASSBOOK_WRITE_MANIFESTS=1 cargo test -p contract permissions
# writes this file. A name that begins with $ is read from the environment.
";

    /// A variable must not stand in quotation marks.
    fn manifest() -> String {
        let variable =
            |user: &str| format!("$NATS_{}_PASSWORD", user.replace('-', "_").to_uppercase());
        let accounts = format!("{:#}", broker_accounts(variable));
        // What stands between the outer braces.
        let accounts = accounts.trim_start_matches("{\n").trim_end_matches("\n}");
        let lines = accounts.lines().map(|line| match line.split_once("\"password\": ") {
            Some((indent, name)) => format!("{indent}\"password\": {}", name.replace('"', "")),
            None => line.to_owned(),
        });
        format!("{HEAD}{}\n", lines.collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn the_manifests_give_the_brokers_users_what_the_contract_says() {
        if std::env::var_os("PASSBOOK_WRITE_MANIFESTS").is_some() {
            std::fs::write(MANIFEST, manifest()).unwrap();
        }
        let there = std::fs::read_to_string(MANIFEST).unwrap_or_default();
        assert!(there == manifest(), "{MANIFEST} is not what the contract gives: {HEAD}");
    }

    #[test]
    fn nobody_but_the_operator_reads_what_another_one_is_answered() {
        let accounts = broker_accounts(|_| String::new());
        let accounts = accounts.as_object().unwrap().values();
        let users = accounts.flat_map(|account| account["users"].as_array().unwrap());
        for user in users.filter(|user| user["user"] != OPERATOR) {
            let subscribe = user["permissions"]["subscribe"].as_array().unwrap();
            let own = inbox(user["user"].as_str().unwrap());
            for subject in subscribe.iter().map(|it| it.as_str().unwrap()) {
                let inbox = subject.starts_with('_') || subject.starts_with(['*', '>']);
                assert!(!inbox || subject == format!("{own}.>"), "{user}");
            }
        }
    }
}
