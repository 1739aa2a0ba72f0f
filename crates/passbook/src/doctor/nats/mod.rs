//! The broker: its version, streams and consumers against the contract, and messages left in them.

mod consumer;
mod contents;
mod drift;
mod server;

use contract::{StreamSpec, Topology, bundle::LEAST_MAX_PAYLOAD, consumers};

use super::check::{Area, Check};
use crate::broker::{Address, Broker};

/// Checks the broker at the address against these streams and consumers, and its servers at their
/// monitoring URLs.
pub(super) async fn check(
    address: Option<&Address>,
    monitors: &[String],
    topology: &Topology,
) -> Vec<Check> {
    let mut area = Area::new("NATS");
    server::check(&mut area, monitors).await;
    let Some(address) = address else {
        area.not_checked("reachable", "no URL is given");
        return area.into_checks();
    };
    let advice = "start nats-server, or correct the URL, its user or password; requests are \
                  accepted meanwhile, and settled once NATS is back";
    let Some(broker) = area.attempt("reachable", advice, Broker::connect(address)).await else {
        return area.into_checks();
    };
    check_version(&mut area, &broker);
    check_max_payload(&mut area, &broker);
    if check_jetstream(&mut area, &broker).await {
        let advice = "see the broker's log; the user of the URL needs the permission to read the \
                      state of every stream";
        let queue = topology.report.stream;
        let job = area.attempt(queue, advice, broker.stream(queue)).await;
        // A system without reports is none with a defect.
        let has_reports = !matches!(job, Some(None));
        if !has_reports {
            area.not_checked(queue, "no report-service has started yet");
        }
        for spec in topology.streams.iter().filter(|spec| has_reports || spec.name != queue) {
            check_stream(&mut area, &broker, topology, spec, has_reports).await;
        }
    }
    area.into_checks()
}

fn check_version(area: &mut Area, broker: &Broker) {
    let version = broker.client.server_info().version;
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let number = (next(), next(), next());
    if number < (2, 12, 9) || number == (2, 14, 0) {
        area.finding(
            "version",
            format!("nats-server {version} loses or delays messages of work queues"),
            "upgrade to nats-server 2.12.9, 2.14.1 or newer",
        );
    } else {
        area.fine("reachable", format!("nats-server {version}"));
    }
}

fn check_max_payload(area: &mut Area, broker: &Broker) {
    const NAME: &str = "max_payload";
    let bytes = broker.client.server_info().max_payload;
    if bytes < LEAST_MAX_PAYLOAD {
        let detail = format!("{bytes} bytes; a message can need {LEAST_MAX_PAYLOAD}");
        let advice = "raise max_payload in the configuration of nats-server and reload it: the \
                      services then send what they hold back";
        area.finding(NAME, detail, advice);
    } else {
        area.fine(NAME, format!("{bytes} bytes"));
    }
}

/// Whether JetStream answers. Without it, no other check of the broker can succeed.
async fn check_jetstream(area: &mut Area, broker: &Broker) -> bool {
    let lookup = async { Ok(broker.jetstream.query_account().await?) };
    let advice = "enable JetStream in the server's configuration and for this account";
    let Some(account) = area.attempt("JetStream", advice, lookup).await else { return false };
    let used = i128::from(account.storage);
    let limit = i128::from(account.limits.max_storage.unwrap_or(-1));
    if limit > 0 && used * 10 >= limit * 9 {
        let detail = format!("{used} of {limit} bytes of storage are used");
        let advice = "give the account more storage: a full stream rejects messages";
        area.finding("JetStream", detail, advice);
    } else {
        area.fine("JetStream", format!("{used} bytes stored"));
    }
    true
}

/// Checks a stream and its consumers.
async fn check_stream(
    area: &mut Area,
    broker: &Broker,
    topology: &Topology,
    spec: &StreamSpec,
    has_reports: bool,
) {
    let advice = "see the broker's log; the user of the URL needs the permission to read the state \
                  of every stream";
    let Some(stream) = area.attempt(spec.name, advice, broker.stream(spec.name)).await else {
        return;
    };
    match stream {
        None => area.finding(
            spec.name,
            "the stream is missing",
            "start the services: they create it within seconds and publish its messages again",
        ),
        Some(stream) => {
            drift::check_stream(area, spec, &stream.cached_info().config);
            let own = topology.consumers.iter().filter(|consumer| consumer.stream == spec.name);
            for consumer in own {
                if has_reports || consumer.name != consumers::JOBS_MAX_DELIVERIES {
                    consumer::check(area, &stream, spec, consumer, topology).await;
                }
            }
            contents::check(area, spec, broker, &stream).await;
        }
    }
}
