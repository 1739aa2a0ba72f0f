//! `passbook wait`.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream;
use tests::{Stack, broker};

use super::{fails, succeeds, text};

#[tokio::test]
async fn wait_returns_once_the_streams_exist() {
    let stack = Stack::start_servers("wait-for-streams").await;
    let nats = stack.file().nats;
    let url = [("PASSBOOK_NATS_URL", nats.as_str())];
    for limit in ["0s", "5s"] {
        let error = fails(&["wait"], &[url[0], ("PASSBOOK_WAIT", limit)]).await;
        assert!(error.contains("passbook streams"), "{error}");
    }

    let with_wait = [url[0], ("PASSBOOK_WAIT", "60s")];
    let (_, made) = tokio::join!(succeeds(&["wait"], &with_wait), succeeds(&["streams"], &url));
    let made = text(&made);
    assert!(made.contains("5 streams") && made.contains("7 consumers"), "{made}");
    succeeds(&["streams"], &url).await;

    // Drift that only a deletion can repair fails at once, although `PASSBOOK_WAIT` is set.
    let jetstream = broker::connect(&stack).await;
    jetstream.delete_stream("TRANSACTION").await.unwrap();
    let other = stream::Config {
        name: "TRANSACTION".to_owned(),
        subjects: vec!["transaction.deposit".to_owned(), "transaction.withdrawal".to_owned()],
        ..Default::default()
    };
    jetstream.create_stream(other).await.unwrap();
    let begun = Instant::now();
    let error = fails(&["streams"], &with_wait).await;
    assert!(error.contains("retention"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn wait_times_out_on_a_silent_server() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    for (variable, url) in [
        ("PASSBOOK_ACCOUNT_DATABASE_URL", format!("postgres://one:two@{address}/account")),
        ("PASSBOOK_NATS_URL", format!("nats://one:two@{address}")),
    ] {
        let begun = Instant::now();
        let error = fails(&["wait", "--wait", "1s"], &[(variable, url.as_str())]).await;
        assert!(error.contains("within 1s"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
    // An invalid URL fails at once, although `--wait` is given.
    let begun = Instant::now();
    for (variable, url, form) in [
        ("PASSBOOK_ACCOUNT_DATABASE_URL", "mysql://one", "postgres://user:password@host"),
        ("PASSBOOK_NATS_URL", "nats://one:two@no place", "nats://user:password@host"),
    ] {
        let error = fails(&["wait", "--wait", "1h"], &[(variable, url)]).await;
        assert!(error.contains(form), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
