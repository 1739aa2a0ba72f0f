//! The credentials of each service in the hands of an intruder: everything outside the service's
//! needs is refused. The needs are written down here once more, by hand.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use contract::permissions;
use devstack::Secrets;
use futures::StreamExt;
use runtime::postgres::DatabaseConfig;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};
use tests::{Client, Stack, broker, client::new_key, raw_nats::RawNats};

/// What a service needs. `*` is any token, `>` any further ones.
struct Needs {
    user: &'static str,
    publish: &'static [&'static str],
    subscribe: &'static [&'static str],
    /// A stream and consumer of the service, with its filter.
    consumer: (&'static str, &'static str, &'static str),
    /// Its consumer of `USED_UP`, which has hardly a message.
    advisories: &'static str,
}

const ACCOUNT_SERVICE: Needs = Needs {
    user: "account-service",
    publish: &[
        "account.settled",
        "transaction.deposit",
        "transaction.withdrawal",
        "dead-letter.TRANSACTION_RESULT.>",
        "dead-letter.USED_UP.>",
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.TRANSACTION",
        "$JS.API.STREAM.CREATE.TRANSACTION_RESULT",
        "$JS.API.STREAM.CREATE.DEAD_LETTER",
        "$JS.API.STREAM.CREATE.USED_UP",
        "$JS.API.STREAM.INFO.TRANSACTION",
        "$JS.API.STREAM.INFO.TRANSACTION_RESULT",
        "$JS.API.STREAM.INFO.DEAD_LETTER",
        "$JS.API.STREAM.INFO.USED_UP",
        "$JS.API.STREAM.MSG.GET.TRANSACTION_RESULT",
        "$JS.API.CONSUMER.CREATE.TRANSACTION_RESULT.account-result-consumer.transaction.result.>",
        "$JS.API.CONSUMER.CREATE.USED_UP.results-used-up-consumer.$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION_RESULT.*",
        "$JS.API.CONSUMER.INFO.TRANSACTION_RESULT.account-result-consumer",
        "$JS.API.CONSUMER.INFO.USED_UP.results-used-up-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.TRANSACTION_RESULT.account-result-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.USED_UP.results-used-up-consumer",
        "$JS.ACK.TRANSACTION_RESULT.account-result-consumer.>",
        "$JS.ACK.USED_UP.results-used-up-consumer.>",
    ],
    subscribe: &["account.settled"],
    consumer: ("TRANSACTION_RESULT", "account-result-consumer", "transaction.result.>"),
    advisories: "results-used-up-consumer",
};

const TRANSACTION_SERVICE: Needs = Needs {
    user: "transaction-service",
    publish: &[
        "transaction.result.deposit",
        "transaction.result.withdrawal",
        "dead-letter.TRANSACTION.>",
        "dead-letter.USED_UP.>",
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.TRANSACTION",
        "$JS.API.STREAM.CREATE.TRANSACTION_RESULT",
        "$JS.API.STREAM.CREATE.DEAD_LETTER",
        "$JS.API.STREAM.CREATE.USED_UP",
        "$JS.API.STREAM.INFO.TRANSACTION",
        "$JS.API.STREAM.INFO.TRANSACTION_RESULT",
        "$JS.API.STREAM.INFO.DEAD_LETTER",
        "$JS.API.STREAM.INFO.USED_UP",
        "$JS.API.STREAM.MSG.GET.TRANSACTION",
        // A command that is not delivered any more, once it is a dead letter.
        "$JS.API.STREAM.MSG.DELETE.TRANSACTION",
        "$JS.API.CONSUMER.CREATE.TRANSACTION.deposit-consumer.transaction.deposit",
        "$JS.API.CONSUMER.CREATE.TRANSACTION.withdrawal-consumer.transaction.withdrawal",
        "$JS.API.CONSUMER.CREATE.USED_UP.commands-used-up-consumer.$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION.*",
        "$JS.API.CONSUMER.INFO.TRANSACTION.deposit-consumer",
        "$JS.API.CONSUMER.INFO.TRANSACTION.withdrawal-consumer",
        "$JS.API.CONSUMER.INFO.USED_UP.commands-used-up-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.TRANSACTION.deposit-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.TRANSACTION.withdrawal-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.USED_UP.commands-used-up-consumer",
        "$JS.ACK.TRANSACTION.deposit-consumer.>",
        "$JS.ACK.TRANSACTION.withdrawal-consumer.>",
        "$JS.ACK.USED_UP.commands-used-up-consumer.>",
    ],
    subscribe: &[],
    consumer: ("TRANSACTION", "deposit-consumer", "transaction.deposit"),
    advisories: "commands-used-up-consumer",
};

const REPORT_SERVICE: Needs = Needs {
    user: "report-service",
    publish: &[
        "message.process",
        "dead-letter.job.>",
        "dead-letter.USED_UP.>",
        "$JS.API.INFO",
        "$JS.API.STREAM.CREATE.job",
        "$JS.API.STREAM.CREATE.DEAD_LETTER",
        "$JS.API.STREAM.CREATE.USED_UP",
        "$JS.API.STREAM.INFO.job",
        "$JS.API.STREAM.INFO.DEAD_LETTER",
        "$JS.API.STREAM.INFO.USED_UP",
        "$JS.API.STREAM.MSG.GET.job",
        "$JS.API.STREAM.MSG.DELETE.job",
        "$JS.API.CONSUMER.CREATE.job.job_cons.message.process",
        "$JS.API.CONSUMER.CREATE.USED_UP.jobs-used-up-consumer.$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.job.*",
        "$JS.API.CONSUMER.INFO.job.job_cons",
        "$JS.API.CONSUMER.INFO.USED_UP.jobs-used-up-consumer",
        "$JS.API.CONSUMER.MSG.NEXT.job.job_cons",
        "$JS.API.CONSUMER.MSG.NEXT.USED_UP.jobs-used-up-consumer",
        "$JS.ACK.job.job_cons.>",
        "$JS.ACK.USED_UP.jobs-used-up-consumer.>",
    ],
    subscribe: &[],
    consumer: ("job", "job_cons", "message.process"),
    advisories: "jobs-used-up-consumer",
};

const SERVICES: [Needs; 3] = [ACCOUNT_SERVICE, TRANSACTION_SERVICE, REPORT_SERVICE];

/// The streams and their consumers, one that does not exist among them.
const STREAMS: [(&str, &[(&str, &str)]); 6] = [
    (
        "TRANSACTION",
        &[
            ("deposit-consumer", "transaction.deposit"),
            ("withdrawal-consumer", "transaction.withdrawal"),
            ("another", ">"),
        ],
    ),
    ("TRANSACTION_RESULT", &[("account-result-consumer", "transaction.result.>")]),
    ("job", &[("job_cons", "message.process")]),
    ("DEAD_LETTER", &[("another", "dead-letter.>")]),
    (
        "USED_UP",
        &[
            (
                "commands-used-up-consumer",
                "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION.*",
            ),
            (
                "results-used-up-consumer",
                "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION_RESULT.*",
            ),
            ("jobs-used-up-consumer", "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.job.*"),
        ],
    ),
    ("planted", &[("planted", "planted.>")]),
];

/// The requests of nats-server 2.15 about no stream in particular, and subjects of messages.
const SUBJECTS: [&str; 30] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.TEMPLATE.CREATE.any",
    "$JS.API.STREAM.TEMPLATE.NAMES",
    "$JS.API.STREAM.TEMPLATE.DELETE.any",
    "$JS.API.META.LEADER.STEPDOWN",
    "$JS.API.SERVER.REMOVE",
    "$JS.API.ACCOUNT.PURGE.PASSBOOK",
    "$JS.API.ACCOUNT.STREAM.MOVE.PASSBOOK.TRANSACTION",
    "$JS.API.ACCOUNT.STREAM.CANCEL_MOVE.PASSBOOK.TRANSACTION",
    "$JS.any.API.STREAM.DELETE.TRANSACTION",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.USER.INFO",
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.TRANSACTION.deposit-consumer",
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.job.job_cons",
    "transaction.deposit",
    "transaction.withdrawal",
    "transaction.result.deposit",
    "transaction.result.withdrawal",
    "transaction.result.other",
    "message.process",
    "account.settled",
    "dead-letter.TRANSACTION.deposit-consumer",
    "dead-letter.TRANSACTION_RESULT.account-result-consumer",
    "dead-letter.job.job_cons",
    "dead-letter.closed.TRANSACTION.deposit-consumer.1.1",
    "_INBOX_operator.any",
    "_INBOX_auditor.any",
    "planted.any",
];

/// Each request about a stream or consumer, and [`SUBJECTS`].
fn requests() -> Vec<String> {
    let mut requests: Vec<String> = SUBJECTS.map(str::to_owned).to_vec();
    let mut api = |request: &str, rest: String| requests.push(format!("$JS.API.{request}.{rest}"));
    for (stream, consumers) in STREAMS {
        for request in [
            "CREATE",
            "UPDATE",
            "INFO",
            "DELETE",
            "PURGE",
            "SNAPSHOT",
            "RESTORE",
            "MSG.GET",
            "MSG.DELETE",
            "PEER.REMOVE",
            "LEADER.STEPDOWN",
        ] {
            api(&format!("STREAM.{request}"), stream.to_owned());
        }
        for request in ["DIRECT.GET", "CONSUMER.NAMES", "CONSUMER.LIST", "CONSUMER.CREATE"] {
            api(request, stream.to_owned());
        }
        api("DIRECT.GET", format!("{stream}.transaction.deposit"));
        for (consumer, filter) in consumers {
            for request in [
                "CREATE",
                "DURABLE.CREATE",
                "INFO",
                "DELETE",
                "PAUSE",
                "RESET",
                "UNPIN",
                "MSG.NEXT",
                "LEADER.STEPDOWN",
            ] {
                api(&format!("CONSUMER.{request}"), format!("{stream}.{consumer}"));
            }
            api("CONSUMER.CREATE", format!("{stream}.{consumer}.{filter}"));
            api("CONSUMER.CREATE", format!("{stream}.planted.{filter}"));
        }
    }
    for (stream, consumers) in STREAMS {
        for (consumer, _) in consumers {
            requests.push(format!("$JS.ACK.{stream}.{consumer}.1.1.1.1.1"));
            requests.push(format!("$JS.FC.{stream}.{consumer}.any"));
        }
    }
    requests
}

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

/// The URL of a database with this role of the stack.
fn as_role(stack: &Stack, database: &str, role: &str) -> String {
    let secrets = Secrets::read(&stack.dir).unwrap();
    let url = stack.file().databases.account.replace("/account?", &format!("/{database}?"));
    let (_, address) = url.split_once('@').unwrap();
    format!("postgres://{role}:{}@{address}", secrets.postgres.of(role).unwrap())
}

#[tokio::test]
async fn a_services_database_credentials_are_good_for_its_needs_only() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    let settled = client.deposit(&account, "100").await;
    let record = settled.text("recordId");
    let (account_service, transaction_service, report_service) = (
        ("account", "account_service"),
        ("transaction", "transaction_service"),
        ("report", "report_service"),
    );
    let new = new_key();
    let transaction = format!(
        "INSERT INTO transactions (record_id, account_id, type, amount, currency, status, reason, created_at)
         VALUES ('{new}', '{account}', 'DEPOSIT', 1, 'KRW', 'FAILED', 'INSUFFICIENT_FUNDS', "
    );
    let of_record = format!("WHERE id = '{record}'");
    let of_account = format!("WHERE account_id = '{account}'");
    let mut intruder = Intruder::new(stack);
    for ((database, role), statement) in [
        (account_service, format!("UPDATE accounts SET owner_id = 'mallory' {of_account}")),
        (account_service, format!("UPDATE accounts SET currency = 'EUR' {of_account}")),
        (account_service, format!("UPDATE accounts SET created_at = now() {of_account}")),
        (
            account_service,
            format!(
                "INSERT INTO accounts (account_id, owner_id, currency, balance) VALUES ('{new}', 'm', 'KRW', 1)"
            ),
        ),
        (
            account_service,
            format!(
                "UPDATE transaction_records SET status = 'PENDING', transaction_id = NULL,
                     balance_after = NULL {of_record}"
            ),
        ),
        (account_service, format!("UPDATE transaction_records SET balance_after = 1 {of_record}")),
        (account_service, format!("UPDATE transaction_records SET transaction_id = 1 {of_record}")),
        (
            account_service,
            format!(
                "UPDATE transaction_records SET status = 'FAILED', reason = 'INSUFFICIENT_FUNDS',
                     balance_after = NULL {of_record}"
            ),
        ),
        (account_service, format!("UPDATE transaction_records SET account_seq = 9 {of_record}")),
        (account_service, format!("UPDATE transaction_records SET amount = 1 {of_record}")),
        (
            account_service,
            format!("UPDATE transaction_records SET account_id = '{new}' {of_record}"),
        ),
        (
            account_service,
            format!("UPDATE transaction_records SET idempotency_key = 'k' {of_record}"),
        ),
        (account_service, format!("UPDATE transaction_records SET user_id = 'm' {of_record}")),
        (
            account_service,
            format!(
                "INSERT INTO transaction_records (id, account_id, idempotency_key, request_hash,
                     user_id, type, amount, currency, status, transaction_id, balance_after)
                 VALUES ('{new}', '{account}', 'k', '', 'm', 'DEPOSIT', 1, 'KRW', 'SUCCESS', 1, 1)"
            ),
        ),
        (account_service, "UPDATE pending_records SET record_id = record_id".to_owned()),
        (account_service, "INSERT INTO redrive_window DEFAULT VALUES".to_owned()),
        (account_service, "DELETE FROM redrive_window".to_owned()),
        (transaction_service, format!("{transaction} '2020-01-01')")),
        (transaction_service, format!("{transaction} now() - interval '1 second')")),
        (transaction_service, format!("{transaction} now() + interval '1 hour')")),
        (
            transaction_service,
            transaction
                .replace("(record_id", "(id, record_id")
                .replace("VALUES (", "OVERRIDING SYSTEM VALUE VALUES (1, ")
                + "now())",
        ),
        (transaction_service, "SELECT nextval('transactions_id_seq')".to_owned()),
        (transaction_service, "SELECT setval('transactions_id_seq', 1)".to_owned()),
        (
            transaction_service,
            format!("UPDATE transactions SET amount = 1 WHERE record_id = '{record}'"),
        ),
        (transaction_service, format!("UPDATE accounts SET account_id = '{new}' {of_account}")),
        (transaction_service, format!("UPDATE accounts SET currency = 'EUR' {of_account}")),
        (transaction_service, format!("UPDATE accounts SET created_at = now() {of_account}")),
        (
            transaction_service,
            format!("UPDATE accounts SET updated_at = now() - interval '1 second' {of_account}"),
        ),
        (
            transaction_service,
            format!("UPDATE accounts SET updated_at = now() + interval '1 hour' {of_account}"),
        ),
        (
            transaction_service,
            format!(
                "INSERT INTO accounts (account_id, currency, created_at, updated_at)
                 VALUES ('{new}', 'KRW', '2020-01-01', '2020-01-01')"
            ),
        ),
        (report_service, "UPDATE reports SET requested_by = 'mallory'".to_owned()),
        (report_service, "UPDATE reports SET account_owner = 'mallory'".to_owned()),
        (report_service, "UPDATE reports SET parameters = '{}'".to_owned()),
        (report_service, "UPDATE report_joins SET report_id = report_id".to_owned()),
        (report_service, "UPDATE report_artifacts SET sha256 = sha256".to_owned()),
        (report_service, "UPDATE report_artifacts SET path = path".to_owned()),
        (report_service, "UPDATE report_alerts SET payload = '{}'".to_owned()),
    ] {
        intruder.assert_denied(database, role, statement).await;
    }
    for (database, role) in [
        account_service,
        transaction_service,
        report_service,
        ("account", "auditor"),
        ("transaction", "auditor"),
        ("report", "auditor"),
        ("account", "report_reader"),
    ] {
        for statement in [
            "SELECT lo_create(0)",
            "SELECT lo_creat(-1)",
            "SELECT lo_from_bytea(0, 'x')",
            "CREATE TEMPORARY TABLE planted (id int)",
            "CREATE TABLE planted (id int)",
            "CREATE SCHEMA planted",
            "CREATE FUNCTION planted() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "SELECT pg_reload_conf()",
            "SET session_replication_role = replica",
        ] {
            intruder.assert_denied(database, role, statement.to_owned()).await;
        }
        for table in tables(stack, database).await {
            for statement in [
                format!("TRUNCATE {table}"),
                format!("ALTER TABLE {table} DISABLE TRIGGER ALL"),
                format!("DROP TABLE {table}"),
                format!("CREATE RULE planted AS ON INSERT TO {table} DO NOTHING"),
            ] {
                intruder.assert_denied(database, role, statement).await;
            }
            if (role, table.as_str()) != ("account_service", "pending_records") {
                intruder.assert_denied(database, role, format!("DELETE FROM {table}")).await;
            }
        }
    }
    for role in
        ["account_service", "transaction_service", "report_service", "auditor", "report_reader"]
    {
        for database in ["postgres", "template1"] {
            intruder.assert_denied(database, role, "SELECT 1".to_owned()).await;
        }
    }
    // All of it changed nothing.
    assert_eq!(client.record(record).await.body, settled.body);
}

async fn tables(stack: &Stack, database: &str) -> Vec<String> {
    let url = stack.file().databases.account.replace("/account?", &format!("/{database}?"));
    let mut superuser = PgConnection::connect(&url).await.unwrap();
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
    let tables = sqlx::query(tables).fetch_all(&mut superuser).await.unwrap();
    tables.iter().map(|row| row.get(0)).collect()
}

/// One session for each database and role.
struct Intruder<'a> {
    stack: &'a Stack,
    sessions: HashMap<(String, String), PgConnection>,
}

impl<'a> Intruder<'a> {
    fn new(stack: &'a Stack) -> Self {
        Self { stack, sessions: HashMap::new() }
    }

    async fn assert_denied(&mut self, database: &str, role: &str, statement: String) {
        let error = self.execute(database, role, &statement).await.err();
        let error = error.map_or_else(|| "it was allowed".to_owned(), |error| error.to_string());
        // A reader's transactions are read-only.
        let denied = ["permission denied", "must be owner", "must be superuser", "read-only"];
        assert!(denied.iter().any(|text| error.contains(text)), "{role}: {statement}: {error}");
    }

    async fn execute(&mut self, database: &str, role: &str, statement: &str) -> sqlx::Result<()> {
        let key = (database.to_owned(), role.to_owned());
        let session = match self.sessions.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let url = as_role(self.stack, database, role);
                entry.insert(PgConnection::connect(&url).await?)
            }
        };
        let statement = sqlx::AssertSqlSafe(format!("BEGIN READ WRITE; {statement}"));
        let outcome = sqlx::raw_sql(statement).execute(&mut *session).await;
        sqlx::raw_sql("ROLLBACK").execute(session).await?;
        outcome.map(drop)
    }
}

/// A role may change the settings of its own sessions.
#[tokio::test]
async fn a_service_commits_to_the_disk_whatever_its_role_has_set() {
    let stack = Stack::shared().await;
    let url = as_role(stack, "report", "report_service");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let set = "ALTER ROLE report_service SET synchronous_commit = off";
    sqlx::raw_sql(set).execute(&mut connection).await.unwrap();
    let show = "SHOW synchronous_commit";
    let mut other = PgConnection::connect(&url).await.unwrap();
    let of_role: String = sqlx::query_scalar(show).fetch_one(&mut other).await.unwrap();
    let config = DatabaseConfig {
        database_url: url.parse().unwrap(),
        database_connections: 1,
        database_timeout: Duration::from_secs(10),
        database_lifetime: Duration::from_secs(10),
    };
    let pool = runtime::postgres::pool(&config, "test").unwrap();
    let of_service: String = sqlx::query_scalar(show).fetch_one(&pool).await.unwrap();
    let reset = "ALTER ROLE report_service RESET synchronous_commit";
    sqlx::raw_sql(reset).execute(&mut connection).await.unwrap();
    assert_eq!((of_role.as_str(), of_service.as_str()), ("off", "on"));
}
