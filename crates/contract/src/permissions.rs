//! The users of the broker and their permissions. Each user has the permissions
//! that its program needs, and no others. The development stack and the Kubernetes
//! manifests use the same permissions.
//!
//! The auditor creates no consumers, because a consumer's creator names its
//! delivery subject, and could so write into any stream. The auditor has an
//! account of its own, because nats-server does not check that the requester may
//! publish to the reply subject. In that account, a reply reaches no stream.

use crate::{
    ConsumerSpec, MAX_DELIVERIES, MOVEMENT_STREAMS, Retention, TRANSACTION, TRANSACTION_RESULT,
    Topology, consumers, subjects,
};
use serde_json::{Value, json};

/// May do everything: sets up streams, handles dead letters.
pub const OPERATOR: &str = "operator";
/// May read everything and change nothing: used by `passbook verify` and
/// `passbook doctor`.
pub const AUDITOR: &str = "auditor";
/// The user of the account-service.
pub const ACCOUNT_SERVICE: &str = "account-service";
/// The user of the transaction-service.
pub const TRANSACTION_SERVICE: &str = "transaction-service";
/// The user of the report-service.
pub const REPORT_SERVICE: &str = "report-service";

/// Prefix of the subjects on which a user receives replies. Other users may
/// not subscribe to them.
#[must_use]
pub fn inbox(user: &str) -> String {
    format!("_INBOX_{user}")
}

/// The accounts and their users for these streams and consumers, in the form of
/// nats-server's configuration.
///
/// # Errors
/// The first error of `password`.
pub fn broker_accounts<E>(
    topology: &Topology,
    password: impl Fn(&str) -> Result<String, E>,
) -> Result<Value, E> {
    let service = |subject: &String| {
        // A direct get can have several replies.
        let replies = if subject.contains(".DIRECT.") { "stream" } else { "singleton" };
        json!({ "service": subject, "response_type": replies })
    };
    let import =
        |subject: &String| json!({ "service": { "account": "PASSBOOK", "subject": subject } });
    let read_requests = read_requests(topology);
    Ok(json!({
        "PASSBOOK": {
            "jetstream": "enabled",
            "exports": read_requests.iter().map(service).collect::<Vec<_>>(),
            "users": users(topology, &password)?,
        },
        "AUDIT": {
            "imports": read_requests.iter().map(import).collect::<Vec<_>>(),
            "users": [user(AUDITOR, &password, json!(read_requests), &[])?],
        },
    }))
}

/// All users except the auditor.
fn users<E>(
    topology: &Topology,
    password: &impl Fn(&str) -> Result<String, E>,
) -> Result<Value, E> {
    let report = topology.report;
    let publish = |messages: &[&str], streams: &[&str], reads, through: &[&str]| {
        publish(topology, messages, streams, reads, through)
    };
    Ok(json!([
        { "user": OPERATOR, "password": password(OPERATOR)? },
        user(
            ACCOUNT_SERVICE,
            password,
            publish(
                &[subjects::DEPOSIT, subjects::WITHDRAWAL, subjects::SETTLED],
                &MOVEMENT_STREAMS,
                TRANSACTION_RESULT,
                &[consumers::ACCOUNT_RESULT, consumers::RESULTS_MAX_DELIVERIES],
            ),
            &[subjects::SETTLED],
        )?,
        user(
            TRANSACTION_SERVICE,
            password,
            publish(
                &[subjects::RESULT_DEPOSIT, subjects::RESULT_WITHDRAWAL],
                &MOVEMENT_STREAMS,
                TRANSACTION,
                &[consumers::DEPOSIT, consumers::WITHDRAWAL, consumers::COMMANDS_MAX_DELIVERIES],
            ),
            &[],
        )?,
        user(
            REPORT_SERVICE,
            password,
            publish(
                &[report.subject],
                &topology.report_streams(),
                report.stream,
                &[report.consumer, consumers::JOBS_MAX_DELIVERIES],
            ),
            &[],
        )?,
    ]))
}

/// A user with the permissions to publish and to subscribe to these subjects,
/// and to receive replies.
fn user<E>(
    name: &str,
    password: &impl Fn(&str) -> Result<String, E>,
    publish: Value,
    subscribe: &[&str],
) -> Result<Value, E> {
    let inbox = format!("{}.>", inbox(name));
    let subscribe: Vec<_> = subscribe.iter().copied().chain([inbox.as_str()]).collect();
    let permissions = json!({ "publish": publish, "subscribe": subscribe });
    Ok(json!({ "user": name, "password": password(name)?, "permissions": permissions }))
}

/// The subjects to which a service may publish. These are its messages, the dead
/// letters of the stream `reads`, and requests: to set up `streams`, and to read
/// `reads` through the service's own consumers.
fn publish(
    topology: &Topology,
    messages: &[&str],
    streams: &[&str],
    reads: &str,
    through: &[&str],
) -> Value {
    let mut allowed: Vec<String> = messages.iter().map(|&subject| subject.to_owned()).collect();
    allowed.push(format!("{}.{reads}.>", subjects::DEAD_LETTER_PREFIX));
    allowed.push(format!("{}.{MAX_DELIVERIES}.>", subjects::DEAD_LETTER_PREFIX));
    allowed.push("$JS.API.INFO".to_owned());
    for stream in streams {
        for request in ["CREATE", "UPDATE", "INFO"] {
            allowed.push(format!("$JS.API.STREAM.{request}.{stream}"));
        }
    }
    // After its last delivery, a message is looked up and dead-lettered. A work queue then keeps it
    // until it is deleted.
    allowed.push(format!("$JS.API.STREAM.MSG.GET.{reads}"));
    if topology.stream(reads).is_some_and(|spec| spec.retention == Retention::WorkQueue) {
        allowed.push(format!("$JS.API.STREAM.MSG.DELETE.{reads}"));
    }
    let own = |consumer: &&ConsumerSpec| through.contains(&consumer.name);
    for ConsumerSpec { stream, name, .. } in topology.consumers.iter().filter(own) {
        let consumer = format!("{stream}.{name}");
        allowed.extend([
            format!("$JS.API.CONSUMER.CREATE.{consumer}"),
            format!("$JS.API.CONSUMER.CREATE.{consumer}.>"),
            format!("$JS.API.CONSUMER.DURABLE.CREATE.{consumer}"),
            format!("$JS.API.CONSUMER.INFO.{consumer}"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}"),
            // Acks have two forms: the second contains the domain and the account.
            format!("$JS.ACK.{consumer}.>"),
            format!("$JS.ACK.*.*.{consumer}.>"),
        ]);
    }
    json!(allowed)
}

/// The requests of the auditor: the state of streams and consumers, and
/// messages, one or many at a time.
fn read_requests(topology: &Topology) -> Vec<String> {
    let mut allowed = ["INFO", "STREAM.INFO.*", "STREAM.MSG.GET.*", "CONSUMER.INFO.*.*"]
        .map(|request| format!("$JS.API.{request}"))
        .to_vec();
    let readable = topology.streams.iter().filter(|stream| stream.retention == Retention::Limits);
    allowed.extend(readable.map(|stream| format!("$JS.API.DIRECT.GET.{}", stream.name)));
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReportQueue;

    const MANIFEST: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../k8s/components/nats/accounts.conf");
    const HEAD: &str = "\
# The accounts of the broker, their users and the permissions of each user.
# Generated from crates/contract/src/permissions.rs by
# PASSBOOK_WRITE_MANIFESTS=1 cargo test -p contract permissions
# A value that begins with $ is the name of an environment variable.
";

    fn accounts(password: impl Fn(&str) -> String) -> Value {
        // A deployment with other names writes its manifest with the same variables.
        let report = ReportQueue::from_variables(|name| std::env::var(name).ok()).unwrap();
        let topology = Topology::leak(report, crate::StreamStorage::DEFAULT);
        broker_accounts(topology, |user| Ok::<_, std::convert::Infallible>(password(user))).unwrap()
    }

    /// The contents of the manifest. Variables must not be quoted.
    fn manifest() -> String {
        let variable =
            |user: &str| format!("$NATS_{}_PASSWORD", user.replace('-', "_").to_uppercase());
        let accounts = format!("{:#}", accounts(variable));
        // Without the outer braces.
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
        let present = std::fs::read_to_string(MANIFEST).unwrap_or_default();
        assert!(present == manifest(), "{MANIFEST} differs from the contract: {HEAD}");
    }

    #[test]
    fn no_user_but_the_operator_reads_the_replies_to_another() {
        let accounts = accounts(|_| String::new());
        let accounts = accounts.as_object().unwrap().values();
        let users = accounts.flat_map(|account| account["users"].as_array().unwrap());
        for user in users.filter(|user| user["user"] != OPERATOR) {
            let subscribe = user["permissions"]["subscribe"].as_array().unwrap();
            let own = inbox(user["user"].as_str().unwrap());
            for subject in subscribe.iter().map(|subject| subject.as_str().unwrap()) {
                let inbox = subject.starts_with('_') || subject.starts_with(['*', '>']);
                assert!(!inbox || subject == format!("{own}.>"), "{user}");
            }
        }
    }
}
