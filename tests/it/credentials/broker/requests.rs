//! What an intruder may try: all requests to JetStream, and subjects of messages.

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
pub(super) fn requests() -> Vec<String> {
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
