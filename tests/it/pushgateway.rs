//! The metrics `passbook verify` pushes to a Pushgateway.

use tests::{
    Stack,
    process::run_with,
    prometheus::{self, Pushgateway},
};

#[tokio::test]
async fn a_verify_without_the_streams_ends_no_alert_about_them() {
    if !prometheus::installed() {
        return;
    }
    let stack = Stack::start("verify-incomplete").await;
    let gateway = Pushgateway::start(&stack).await;
    let url = gateway.url();
    let databases = stack.file().databases;
    let verify = async |nats: &str, gateway: &str| {
        let settings = [
            ("PASSBOOK_ACCOUNT_DATABASE_URL", databases.account.as_str()),
            ("PASSBOOK_TRANSACTION_DATABASE_URL", databases.transaction.as_str()),
            ("PASSBOOK_NATS_URL", nats),
            ("PASSBOOK_PUSHGATEWAY_URL", gateway),
        ];
        let output = run_with(&["verify"], &settings).await;
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    // The value of this metric for the invariant `dropped`, or else for its first label.
    let pushed = async |name: &str| {
        let all = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
        let line = all.lines().find(|line| line.starts_with(name) && line.contains("dropped"));
        let line = line.or_else(|| all.lines().find(|line| line.starts_with(name)));
        line.unwrap_or_default().rsplit(' ').next().unwrap().to_owned()
    };
    const FINDINGS: &str = "passbook_verify_findings{";
    const LAST: &str = "passbook_verify_last_run_timestamp_seconds{";
    assert_eq!(verify(&stack.file().nats, &url).await.0, 0);
    assert_eq!(pushed(FINDINGS).await, "0");
    let last = pushed(LAST).await;
    assert!(!last.is_empty());
    // As a run with a finding leaves it.
    let finding = "# TYPE passbook_verify_findings gauge\npassbook_verify_findings 1\n".to_owned();
    gateway.put("passbook-verify/invariant/dropped", finding).await;
    assert_eq!(verify("nats://one:two@127.0.0.1:1", &url).await.0, 2);
    assert_eq!((pushed(FINDINGS).await, pushed(LAST).await), ("1".to_owned(), last));
    assert_eq!(verify(&stack.file().nats, &url).await.0, 0);
    assert_eq!(pushed(FINDINGS).await, "0");

    // The other group holds the same series. The gateway rejects a series in two groups, so that
    // this run is not recorded as complete. The next run is.
    let duplicate = "# TYPE passbook_verify_findings gauge\n\
                passbook_verify_findings{invariant=\"dropped\"} 1\n";
    gateway.delete("passbook-verify/invariant/dropped").await;
    gateway.put("passbook-verify", duplicate.to_owned()).await;
    assert_eq!(verify(&stack.file().nats, &url).await.0, 2);
    assert_eq!(pushed(LAST).await, "");
    assert_eq!(verify(&stack.file().nats, &url).await.0, 0);
    assert_eq!(pushed(FINDINGS).await, "0");
    assert_ne!(pushed(LAST).await, "");

    for wrong in ["pushgateway:9091", "https://gateway", "http://one:hidden@gateway"] {
        let (code, error) = verify(&stack.file().nats, wrong).await;
        assert!(code == 2 && error.contains("http://host:9091"), "{error}");
        assert!(!error.contains("hidden"), "{error}");
    }
    assert_eq!(verify(&stack.file().nats, "").await.0, 0);
}
