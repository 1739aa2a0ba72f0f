//! The users of the broker and their permissions. Each user has the permissions
//! that its program needs, and no others. The development stack and the Kubernetes
//! manifests use the same permissions.
//!
//! nats-server does not check that a requester may publish to the reply subject: an
//! answer could become a message of any stream. So the streams and the operator have an
//! account, and each other user has one of its own. It imports the subjects to which the
//! user may publish. The answers, and the messages that the user fetches, stay in its
//! account, which has no streams. They leave it only to the imported subjects.
//!
//! A service may create its streams and consumers, because they must come back after a
//! loss without a person. It may not change or delete a stream. The auditor creates no
//! consumers, because a consumer's creator names its delivery subject.

use crate::{
    ConsumerSpec, MAX_DELIVERIES, MOVEMENT_STREAMS, Retention, TRANSACTION, TRANSACTION_RESULT,
    Topology, consumers, subjects,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

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

/// The account of the streams and of the operator.
pub const STREAMS_ACCOUNT: &str = "PASSBOOK";

/// A user other than the operator. Its account has the same name.
struct User {
    name: &'static str,
    /// The subjects of other accounts that it may publish to.
    requests: Vec<String>,
    /// The subjects within its account, for its replicas.
    own: &'static [&'static str],
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
    let mut accounts = Map::new();
    let mut exports = BTreeSet::new();
    for user in users(topology) {
        accounts.insert(user.name.to_owned(), account(&user, &password)?);
        exports.extend(user.requests);
    }
    let streams = json!({
        "jetstream": "enabled",
        "exports": exports.iter().map(|subject| export(topology, subject)).collect::<Vec<_>>(),
        "users": [{ "user": OPERATOR, "password": password(OPERATOR)? }],
    });
    accounts.insert(STREAMS_ACCOUNT.to_owned(), streams);
    Ok(accounts.into())
}

/// How long a reply to a fetch may take: longer than the fetches of the services wait. The
/// server keeps some memory for each fetch until then.
const FETCH_THRESHOLD: &str = "30s";
/// As [`FETCH_THRESHOLD`]; `PASSBOOK_REPORT_FETCH_WAIT` is at most five minutes.
const REPORT_FETCH_THRESHOLD: &str = "6m";

fn export(topology: &Topology, subject: &str) -> Value {
    let fetch = "$JS.API.CONSUMER.MSG.NEXT.";
    let Some(consumer) = subject.strip_prefix(fetch) else {
        // A direct get can have several replies.
        let replies = if subject.contains(".DIRECT.") { "stream" } else { "singleton" };
        return json!({ "service": subject, "response_type": replies });
    };
    let report = topology.report;
    let is_report = consumer == format!("{}.{}", report.stream, report.consumer);
    let threshold = if is_report { REPORT_FETCH_THRESHOLD } else { FETCH_THRESHOLD };
    json!({ "service": subject, "response_type": "stream", "response_threshold": threshold })
}

/// The account of one user. The user may publish what the account imports, and receive replies.
fn account<E>(user: &User, password: impl Fn(&str) -> Result<String, E>) -> Result<Value, E> {
    let &User { name, ref requests, own } = user;
    let import =
        |subject: &String| json!({ "service": { "account": STREAMS_ACCOUNT, "subject": subject } });
    let inbox = format!("{}.>", inbox(name));
    let publish: Vec<_> = own.iter().copied().chain(requests.iter().map(String::as_str)).collect();
    let subscribe: Vec<_> = own.iter().copied().chain([inbox.as_str()]).collect();
    let permissions = json!({ "publish": publish, "subscribe": subscribe });
    Ok(json!({
        "imports": requests.iter().map(import).collect::<Vec<_>>(),
        "users": [{ "user": name, "password": password(name)?, "permissions": permissions }],
    }))
}

/// All users except the operator.
fn users(topology: &Topology) -> [User; 4] {
    let report = topology.report;
    let service = |name, messages: &[&str], streams: &[&str], reads, through: &[&str]| {
        let requests = service_requests(topology, messages, streams, reads, through);
        User { name, requests, own: &[] }
    };
    [
        User { name: AUDITOR, requests: read_requests(topology), own: &[] },
        User {
            own: &[subjects::SETTLED],
            ..service(
                ACCOUNT_SERVICE,
                &[subjects::DEPOSIT, subjects::WITHDRAWAL],
                &MOVEMENT_STREAMS,
                TRANSACTION_RESULT,
                &[consumers::ACCOUNT_RESULT, consumers::RESULTS_MAX_DELIVERIES],
            )
        },
        service(
            TRANSACTION_SERVICE,
            &[subjects::RESULT_DEPOSIT, subjects::RESULT_WITHDRAWAL],
            &MOVEMENT_STREAMS,
            TRANSACTION,
            &[consumers::DEPOSIT, consumers::WITHDRAWAL, consumers::COMMANDS_MAX_DELIVERIES],
        ),
        service(
            REPORT_SERVICE,
            &[report.subject],
            &topology.report_streams(),
            report.stream,
            &[report.consumer, consumers::JOBS_MAX_DELIVERIES],
        ),
    ]
}

/// The subjects to which a service may publish. These are its messages, the dead
/// letters of the stream `reads`, and requests: to create `streams`, and to read
/// `reads` through the service's own consumers.
fn service_requests(
    topology: &Topology,
    messages: &[&str],
    streams: &[&str],
    reads: &str,
    through: &[&str],
) -> Vec<String> {
    let mut allowed: Vec<String> = messages.iter().map(|&subject| subject.to_owned()).collect();
    allowed.push(format!("{}.{reads}.>", subjects::DEAD_LETTER_PREFIX));
    allowed.push(format!("{}.{MAX_DELIVERIES}.>", subjects::DEAD_LETTER_PREFIX));
    allowed.push("$JS.API.INFO".to_owned());
    for stream in streams {
        // For an existing stream, the server answers the first one with an error if it names
        // other settings.
        for request in ["CREATE", "INFO"] {
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
    for ConsumerSpec { stream, name, filter, .. } in topology.consumers.iter().filter(own) {
        let consumer = format!("{stream}.{name}");
        allowed.extend([
            // The server compares the filter in the subject with that of the consumer.
            format!("$JS.API.CONSUMER.CREATE.{consumer}.{filter}"),
            format!("$JS.API.CONSUMER.INFO.{consumer}"),
            format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}"),
            // Acks have two forms: the second contains the domain and the account.
            format!("$JS.ACK.{consumer}.>"),
            format!("$JS.ACK.*.*.{consumer}.>"),
        ]);
    }
    allowed
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
    use crate::{ReportQueue, topology::matches};

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
    fn no_user_but_the_operator_and_the_transaction_service_publishes_results() {
        let accounts = accounts(|_| String::new());
        let accounts = accounts.as_object().unwrap().values();
        let users = accounts.flat_map(|account| account["users"].as_array().unwrap());
        let publishers = users.filter(|user| {
            let allowed = user["permissions"]["publish"].as_array();
            let mut results = [subjects::RESULT_DEPOSIT, subjects::RESULT_WITHDRAWAL].into_iter();
            // Without a list, a user may publish everything.
            results.any(|result| {
                allowed.is_none_or(|allowed| {
                    allowed.iter().any(|pattern| matches(pattern.as_str().unwrap(), result))
                })
            })
        });
        let publishers: Vec<_> = publishers.map(|user| user["user"].as_str().unwrap()).collect();
        assert_eq!(publishers, [OPERATOR, TRANSACTION_SERVICE]);
    }

    #[test]
    fn every_user_has_an_account_of_its_own_and_only_one_account_has_streams() {
        let accounts = accounts(|_| String::new());
        for (name, account) in accounts.as_object().unwrap() {
            let [user] = account["users"].as_array().unwrap().as_slice() else { panic!("{name}") };
            let has_streams = name == STREAMS_ACCOUNT;
            assert_eq!(user["user"], if has_streams { OPERATOR } else { name });
            assert_eq!(account["jetstream"].is_null(), !has_streams, "{name}");
        }
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
