//! `passbook load`: its report matches the database.

use serde_json::Value;
use tests::{Stack, process};

/// Runs `passbook load` for a second. Gives its exit code and report.
async fn load(stack: &Stack, arguments: &[&str]) -> (Option<i32>, Value) {
    let dir = stack.dir.to_str().unwrap();
    let fixed = ["load", "--dir", dir, "-o", "json", "--seconds", "1", "--accounts", "20"];
    let output = process::run(&[&fixed, arguments].concat()).await;
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

/// The number of its records in the database: all, SUCCESS and FAILED.
async fn records(stack: &Stack, report: &Value) -> [i64; 3] {
    let (all, success, failed) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE status = 'SUCCESS'),
                count(*) FILTER (WHERE status = 'FAILED')
         FROM transaction_records WHERE starts_with(idempotency_key, $1)",
    )
    .bind(report["keys"].as_str().unwrap())
    .fetch_one(&stack.accounts().await)
    .await
    .unwrap();
    [all, success, failed]
}

#[tokio::test]
async fn the_reported_figures_match_the_database() {
    let stack = Stack::shared().await;
    let mix = ["--clients", "8", "--withdrawals", "0.5", "--refused", "0.5"];
    let (code, report) = load(stack, &mix).await;
    assert_eq!(code, Some(0), "{report:#}");
    let [all, success, failed] = records(stack, &report).await;
    assert!(all > 0 && failed > 0, "{report:#}");
    assert_eq!(all, success + failed, "{report:#}");
    let figures = ["accepted", "settled", "refused", "pending", "unexpected"];
    let reported = figures.map(|name| report[name].as_i64().unwrap());
    assert_eq!(reported, [all, all, failed, 0, 0], "{report:#}");
    assert_eq!(report["statuses"]["202"], report["accepted"], "{report:#}");
}

#[tokio::test]
async fn a_load_from_outside_uses_the_api_alone_and_counts_its_own_records() {
    let stack = Stack::shared().await;
    let file = stack.file();
    let token = tests::stack::folder("load-token").join("token");
    std::fs::write(&token, format!("{}\n", file.tokens.teller)).unwrap();
    let arguments = ["load", "-o", "json", "--seconds", "1", "--accounts", "20", "--clients", "4"];
    let mix = ["--withdrawals", "0.5", "--refused", "0.5", "--api", &file.api];
    let command = [&arguments[..], &mix].concat();
    let from_file = ("PASSBOOK_TOKEN_FILE", token.to_str().unwrap());
    let output = process::run_with(&command, &[from_file]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [all, success, failed] = records(stack, &report).await;
    assert!(all > 0 && failed > 0 && all == success + failed, "{report:#}");
    let figures = ["accepted", "settled", "refused", "pending", "unexpected"];
    let reported = figures.map(|name| report[name].as_i64().unwrap());
    assert_eq!(reported, [all, all, failed, 0, 0], "{report:#}");

    let no_token = process::run(&command).await;
    assert_eq!(no_token.status.code(), Some(2), "{no_token:?}");
    let missing = process::run_with(&command, &[("PASSBOOK_TOKEN_FILE", "/nonexistent")]).await;
    let error = String::from_utf8_lossy(&missing.stderr);
    assert!(error.contains("PASSBOOK_TOKEN_FILE: /nonexistent: "), "{error}");
    let stranger = process::run_with(&command, &[("PASSBOOK_TOKEN", "no-token")]).await;
    let error = String::from_utf8_lossy(&stranger.stderr);
    assert!(error.contains("401") && !error.contains("no-token"), "{error}");
}

#[tokio::test]
async fn an_open_loop_load_sends_every_due_request_and_waits_until_it_settles() {
    let stack = Stack::shared().await;
    let (code, report) = load(stack, &["--rate", "50", "--wait"]).await;
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(records(stack, &report).await, [50, 50, 0], "{report:#}");
    assert_eq!((&report["requests"], &report["told"]), (&50.into(), &50.into()), "{report:#}");
    let latency = |name: &str| report["latency"][name].as_f64().unwrap();
    assert!(latency("p50") > 0.0 && latency("p50") <= latency("max"), "{report:#}");
}
