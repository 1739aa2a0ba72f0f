//! The broker: its version, streams and consumers against the contract, and messages left in them.

mod consumer;
mod contents;
mod drift;

use contract::{CONSUMERS, JOB, STREAMS, StreamSpec, consumers};

use super::check::{Area, Check};
use crate::{
    arguments::ReportLimits,
    broker::{Address, Broker},
};

/// Checks the broker at the address.
pub(super) async fn check(address: Option<&Address>, limits: &ReportLimits) -> Vec<Check> {
    let mut area = Area::new("NATS");
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
    if check_jetstream(&mut area, &broker).await {
        let advice = "see the broker's log; the user of the URL needs the permission to read the \
                      state of every stream";
        let job = area.attempt(JOB, advice, broker.stream(JOB)).await;
        // A system without reports is none with a defect.
        let has_reports = !matches!(job, Some(None));
        if !has_reports {
            area.not_checked(JOB, "no report-service has started yet");
        }
        for spec in STREAMS.iter().filter(|spec| has_reports || spec.name != JOB) {
            check_stream(&mut area, &broker, spec, has_reports.then_some(limits)).await;
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

/// Checks a stream and its consumers. `limits` are those of reports, if there is a report-service.
async fn check_stream(
    area: &mut Area,
    broker: &Broker,
    spec: &StreamSpec,
    limits: Option<&ReportLimits>,
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
            for consumer in CONSUMERS.iter().filter(|consumer| consumer.stream == spec.name) {
                match limits {
                    Some(limits) => {
                        consumer::check(area, &stream, &limits.expected(consumer)).await;
                    }
                    None if consumer.name == consumers::JOBS_MAX_DELIVERIES => {}
                    None => consumer::check(area, &stream, consumer).await,
                }
            }
            contents::check(area, spec, broker, &stream).await;
        }
    }
}
