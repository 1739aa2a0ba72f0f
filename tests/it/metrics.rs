//! The metrics of the services.

use std::time::Duration;

use devstack::Fault;
use tests::{Client, Stack, client::new_key, eventually, metrics::Scrape};

const SOON: Duration = Duration::from_secs(30);

const ACCOUNT: [&str; 2] = ["account-service-0", "account-service-1"];
const TRANSACTION: [&str; 2] = ["transaction-service-0", "transaction-service-1"];

/// Name, type, and label names in alphabetical order.
type Metric = (&'static str, &'static str, &'static [&'static str]);

/// Name, labels, and the minimum increase.
type Increase = (&'static str, &'static [(&'static str, &'static str)], f64);

const BOTH: &[Metric] = &[
    ("passbook_build_info", "gauge", &["service", "version"]),
    ("passbook_condition_up", "gauge", &["condition", "required"]),
    ("passbook_worker_batch_messages", "histogram", &["consumer"]),
    ("passbook_worker_messages_total", "counter", &["consumer", "verdict"]),
    ("passbook_worker_parts_total", "counter", &["consumer", "verdict"]),
    ("passbook_worker_fetch_errors_total", "counter", &["consumer"]),
    ("passbook_redeliveries_total", "counter", &["consumer"]),
    ("passbook_worker_kept_messages", "gauge", &["consumer"]),
    ("passbook_messages_refused_total", "counter", &["kind"]),
    ("passbook_dead_letters_total", "counter", &["consumer"]),
    ("passbook_consumer_pending_messages", "gauge", &["consumer", "stream"]),
    ("passbook_consumer_unacked_messages", "gauge", &["consumer", "stream"]),
    ("passbook_consumer_unacked_limit", "gauge", &["consumer", "stream"]),
    ("passbook_consumer_waiting_pulls", "gauge", &["consumer", "stream"]),
    ("passbook_stream_messages", "gauge", &["stream"]),
    ("passbook_stream_bytes", "gauge", &["stream"]),
    ("passbook_stream_limit_bytes", "gauge", &["stream"]),
    ("passbook_dead_letters_open", "gauge", &[]),
    ("passbook_dead_letters_unstored", "gauge", &[]),
    ("passbook_database_connections", "gauge", &["state"]),
    ("passbook_database_connections_limit", "gauge", &[]),
    ("process_cpu_seconds_total", "counter", &[]),
    ("process_resident_memory_bytes", "gauge", &[]),
    ("process_start_time_seconds", "gauge", &[]),
    ("process_open_fds", "gauge", &[]),
    ("process_max_fds", "gauge", &[]),
];

const ACCOUNT_ONLY: &[Metric] = &[
    ("passbook_http_request_seconds", "histogram", &["method", "route", "status"]),
    ("passbook_http_refusals_total", "counter", &["kind"]),
    ("passbook_http_connections_refused_total", "counter", &[]),
    ("passbook_records_accepted_total", "counter", &["type"]),
    ("passbook_records_settled_total", "counter", &["status", "type"]),
    ("passbook_settle_seconds", "histogram", &["type"]),
    ("passbook_records_pending", "gauge", &[]),
    ("passbook_records_pending_oldest_seconds", "gauge", &[]),
    ("passbook_redrives_total", "counter", &[]),
    ("passbook_redrive_errors_total", "counter", &[]),
    ("passbook_redrive_round_seconds", "histogram", &[]),
    ("passbook_commands_unsent_total", "counter", &[]),
];

/// Whether the metric is exported; panics if its type or its label names are others.
fn exports(scrape: &Scrape, (name, kind, labels): &Metric) -> bool {
    let sample = if *kind == "histogram" { format!("{name}_count") } else { (*name).to_owned() };
    let names = scrape.label_names(&sample);
    assert!(names.iter().all(|found| found == labels), "{name}: {names:?}");
    let found = scrape.kind(name);
    assert!(found.is_none_or(|found| found == *kind), "{name}: {found:?}");
    found.is_some() && !names.is_empty()
}

/// The metrics of both replicas of a service.
struct BothReplicas([Scrape; 2]);

impl BothReplicas {
    async fn of(stack: &Stack, [first, second]: [&str; 2]) -> Self {
        Self([Scrape::of(stack, first).await, Scrape::of(stack, second).await])
    }

    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0.iter().filter_map(|scrape| scrape.sum(name, labels)).sum()
    }

    fn max(&self, name: &str) -> f64 {
        self.0.iter().filter_map(|scrape| scrape.sum(name, &[])).fold(f64::NAN, f64::max)
    }
}

#[tokio::test]
async fn each_service_exports_every_metric_and_counts_its_work() {
    const DEPOSIT: (&str, &str) = ("type", "DEPOSIT");
    const WITHDRAWAL: (&str, &str) = ("type", "WITHDRAWAL");
    const SUCCESS: (&str, &str) = ("status", "SUCCESS");
    const FAILED: (&str, &str) = ("status", "FAILED");
    const POST: (&str, &str) = ("method", "POST");
    const ROUTE: (&str, &str) = ("route", "/v1/accounts/{account}/deposits");
    let stack = Stack::shared().await;
    let (accounts, ledgers) =
        (BothReplicas::of(stack, ACCOUNT).await, BothReplicas::of(stack, TRANSACTION).await);
    for replica in ACCOUNT {
        let client = Client::teller_at(stack, replica);
        let account = client.open_account("KRW").await;
        for amount in ["300", "100"] {
            assert_eq!(client.deposit(&account, amount).await.text("status"), "SUCCESS");
        }
        assert_eq!(client.withdraw(&account, "50").await.text("status"), "SUCCESS");
        assert_eq!(client.withdraw(&account, "500").await.text("status"), "FAILED");
    }
    // Minimum increases, because concurrent tests move money, too.
    let expected: [Increase; 9] = [
        ("passbook_records_accepted_total", &[DEPOSIT], 4.0),
        ("passbook_records_accepted_total", &[WITHDRAWAL], 4.0),
        ("passbook_records_settled_total", &[SUCCESS, DEPOSIT], 4.0),
        ("passbook_records_settled_total", &[SUCCESS, WITHDRAWAL], 2.0),
        ("passbook_records_settled_total", &[FAILED, WITHDRAWAL], 2.0),
        ("passbook_settle_seconds_count", &[DEPOSIT], 4.0),
        ("passbook_settle_seconds_count", &[WITHDRAWAL], 4.0),
        ("passbook_settle_seconds_bucket", &[DEPOSIT, ("le", "+Inf")], 4.0),
        ("passbook_http_request_seconds_count", &[POST, ROUTE], 4.0),
    ];
    let ledger_expected: [Increase; 3] = [
        // Concurrent movements may share a message.
        ("passbook_worker_messages_total", &[("consumer", "deposit-consumer")], 1.0),
        ("passbook_worker_parts_total", &[("consumer", "deposit-consumer")], 4.0),
        ("passbook_worker_parts_total", &[("consumer", "withdrawal-consumer")], 4.0),
    ];
    eventually("all movements are counted", SOON, || async {
        let (now, ledgers_now) =
            (BothReplicas::of(stack, ACCOUNT).await, BothReplicas::of(stack, TRANSACTION).await);
        let increased =
            |before: &BothReplicas, now: &BothReplicas, (name, labels, minimum): Increase| {
                now.sum(name, labels) - before.sum(name, labels) >= minimum
            };
        let counted = expected.iter().all(|metric| increased(&accounts, &now, *metric))
            && ledger_expected.iter().all(|metric| increased(&ledgers, &ledgers_now, *metric));
        counted.then_some(())
    })
    .await;
    for (replicas, own) in [(ACCOUNT, ACCOUNT_ONLY), (TRANSACTION, &[])] {
        for replica in replicas {
            // Some metrics appear only after a round of the redrive or a request to the broker.
            eventually(&format!("{replica} exports every metric"), SOON, || async {
                let scrape = Scrape::of(stack, replica).await;
                let all = BOTH.iter().chain(own).all(|metric| exports(&scrape, metric));
                all.then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn each_service_reports_its_own_consumers_streams_and_connections() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = client.open_account("KRW").await;
    assert_eq!(client.deposit(&account, "1").await.text("status"), "SUCCESS");
    let consumers: [(&str, &[(&str, &str)]); 2] = [
        (
            ACCOUNT[0],
            &[
                ("TRANSACTION_RESULT", "account-result-consumer"),
                ("USED_UP", "results-used-up-consumer"),
            ],
        ),
        (
            TRANSACTION[0],
            &[
                ("TRANSACTION", "deposit-consumer"),
                ("TRANSACTION", "withdrawal-consumer"),
                ("USED_UP", "commands-used-up-consumer"),
            ],
        ),
    ];
    for (replica, own) in consumers {
        let scrape = eventually("the replica has the metrics of the broker", SOON, || async {
            let scrape = Scrape::of(stack, replica).await;
            let results = [("stream", "TRANSACTION_RESULT")];
            (scrape.sum("passbook_stream_messages", &results)? > 0.0).then_some(scrape)
        })
        .await;
        let service = replica.trim_end_matches("-0");
        assert_eq!(scrape.sum("passbook_build_info", &[("service", service)]), Some(1.0));
        for (stream, consumer) in own {
            for gauge in ["pending_messages", "unacked_messages", "waiting_pulls"] {
                let gauge = format!("passbook_consumer_{gauge}");
                let labels = [("stream", *stream), ("consumer", *consumer)];
                assert!(scrape.sum(&gauge, &labels).is_some(), "{gauge} {labels:?}");
            }
        }
        for stream in ["TRANSACTION", "TRANSACTION_RESULT", "DEAD_LETTER", "USED_UP"] {
            assert!(
                scrape.sum("passbook_stream_bytes", &[("stream", stream)]).is_some(),
                "{stream}"
            );
        }
        let required = if service == "account-service" { "false" } else { "true" };
        for (condition, required) in [("postgres", "true"), ("nats", required)] {
            let labels = [("condition", condition), ("required", required)];
            assert_eq!(scrape.sum("passbook_condition_up", &labels), Some(1.0), "{labels:?}");
        }
        let connections = scrape.sum("passbook_database_connections", &[]).unwrap();
        let limit = scrape.sum("passbook_database_connections_limit", &[]).unwrap();
        assert!(1.0 <= connections && connections <= limit, "{connections} of {limit}");
    }
}

#[tokio::test]
async fn pending_records_and_their_age_are_reported_while_the_broker_is_down() {
    let stack = Stack::start_with_faults("counted-pending").await;
    let client = Client::teller(&stack);
    let account = client.open_account("KRW").await;
    stack.fault("nats", Fault::Hold).await;
    for _ in 0..3 {
        let accepted = client.movement("deposits", &account, "10", &new_key(), None).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
    }
    let pending_for = |seconds| {
        let stack = &stack;
        move || async move {
            let now = BothReplicas::of(stack, ACCOUNT).await;
            let mut pending =
                now.0.iter().map(|scrape| scrape.sum("passbook_records_pending", &[]));
            let age = now.max("passbook_records_pending_oldest_seconds");
            (pending.all(|count| count == Some(3.0)) && age >= seconds).then_some(())
        }
    };
    eventually("three records are PENDING", SOON, pending_for(5.0)).await;
    stack.fault("account-service-*/postgres", Fault::Refuse).await;
    eventually("their age grows while PostgreSQL is down", SOON, pending_for(15.0)).await;
    stack.fault("account-service-*/postgres", Fault::Pass).await;
    stack.fault("nats", Fault::Release).await;
    eventually("no record is PENDING", SOON * 2, || async {
        let now = BothReplicas::of(&stack, ACCOUNT).await;
        let none = now.max("passbook_records_pending") == 0.0
            && now.max("passbook_records_pending_oldest_seconds") == 0.0;
        none.then_some(())
    })
    .await;
    // The histogram has the time they took.
    let now = BothReplicas::of(&stack, ACCOUNT).await;
    let (all, within_5_seconds) = (
        now.sum("passbook_settle_seconds_count", &[]),
        now.sum("passbook_settle_seconds_bucket", &[("le", "5")]),
    );
    assert_eq!((all, within_5_seconds), (3.0, 0.0));
}
