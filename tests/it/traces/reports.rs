//! One trace from the request for a report to its files.

use serde_json::json;
use tests::{Client, Stack};

use super::{Collector, Span};
use crate::reports::{statement, used_account};

#[tokio::test]
async fn a_report_is_one_trace_from_its_request_to_its_files() {
    let collector = Collector::start().await;
    let settings = [
        format!("OTEL_EXPORTER_OTLP_ENDPOINT={}", collector.endpoint),
        "OTEL_TRACES_SAMPLER_ARG=1".to_owned(),
    ];
    let stack = Stack::start_reports("traced-report", 1, &settings).await;
    let client = Client::teller(&stack);
    let account = used_account(&client).await;
    let report = client.report(&statement(&account, &["csv", "json"]), 30).await;
    assert_eq!(report.text("state"), "SUCCEEDED", "{report:?}");
    let request = |span: &Span| span.name == "POST /v1/reports";
    let spans = collector.trace("a report", request, |spans| spans.len() >= 9).await;
    let parent = |span: &Span| {
        let parent = spans.iter().find(|other| other.id == span.parent);
        parent.map_or("", |parent| parent.name.as_str()).to_owned()
    };
    let mut found: Vec<_> = spans.iter().map(|span| (span.name.clone(), parent(span))).collect();
    found.sort();
    let expected = [
        ("POST /v1/reports", ""),
        ("process message.process", "publish message.process"),
        ("publish message.process", "POST /v1/reports"),
        ("read", "report statement"),
        ("render", "report statement"),
        ("render", "report statement"),
        ("report statement", "POST /v1/reports"),
        ("store", "report statement"),
        ("store", "report statement"),
    ];
    let expected = expected.map(|(name, parent)| (name.to_owned(), parent.to_owned()));
    assert_eq!(found, expected);
    for span in spans.iter().filter(|span| parent(span) == "report statement") {
        assert_eq!(json!(span.attributes["passbook.report.id"]), report.body["reportId"]);
        assert!(!span.failed, "{span:?}");
    }
}
