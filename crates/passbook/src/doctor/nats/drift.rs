//! Configurations of streams and consumers that differ from the contract.

use async_nats::jetstream::{consumer::Info, stream::Config};
use contract::{ConsumerSpec, StreamSpec};
use runtime::nats::streams::{Difference, consumer_differences, stream_differences};

use crate::doctor::check::Area;

const DELETE: &str = "delete it once it is empty, and restart the services to create it again: the \
                      broker can't change this field";

pub(super) fn check_stream(area: &mut Area, spec: &StreamSpec, actual: &Config) {
    let advice = "run `passbook streams` with the services' settings, such as \
                  PASSBOOK_STREAM_STORAGE: the services do not change an existing stream";
    report(area, spec.name, stream_differences(spec, actual), advice);
}

pub(super) fn check_consumer(area: &mut Area, spec: &ConsumerSpec, info: &Info) {
    let advice = "run `passbook streams`, or restart its service: find out who changed it";
    report(area, spec.name, consumer_differences(spec, &info.config), advice);
}

fn report(area: &mut Area, name: &str, differences: Vec<Difference>, advice: &str) {
    for difference in differences {
        let Difference { field, found, wanted } = &difference;
        let detail = format!("{field} is {found}, and {wanted} is expected");
        area.finding(name, detail, if difference.is_mutable() { advice } else { DELETE });
    }
}
