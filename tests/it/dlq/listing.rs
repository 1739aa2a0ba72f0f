//! Dead letters in lists and in full, also for a terminal.

use std::time::Duration;

use tests::{
    Client, Stack,
    broker::{self, deposit_command},
    client::new_key,
    process,
};

use super::{COMMANDS, dlq, dlq_text, publish_dead_letter};

#[tokio::test]
async fn dead_letters_are_listed_and_shown_with_their_reason() {
    let stack = Stack::start("dead-letters").await;
    let none = dlq_text(&stack, &["ls"]).await;
    assert_eq!((none.0, none.1.lines().count()), (0, 1), "{none:?}");
    let jetstream = broker::connect(&stack).await;
    for poison in ["first \u{1b}[2J\u{9b}31m poison", "second poison"] {
        broker::publish(&jetstream, "transaction.withdrawal", &new_key(), poison).await;
        let within = Duration::from_secs(10);
        broker::dead_letter(&jetstream, within, |body| body == poison.as_bytes()).await;
    }
    let (code, listed) = dlq(&stack, &["ls"]).await;
    assert_eq!(code, 1, "open dead letters are a finding: {listed}");
    let bodies: Vec<_> = listed.as_array().unwrap().iter().map(|letter| &letter["body"]).collect();
    assert_eq!(bodies, ["second poison", "first \u{1b}[2J\u{9b}31m poison"]);
    assert_eq!(listed[0]["consumer"], "withdrawal-consumer");
    assert_eq!(listed[0]["subject"], "transaction.withdrawal");
    // Both reasons begin alike, up to the error of the JSON parser.
    let (reason, _) = listed[0]["reason"].as_str().unwrap().split_once(':').unwrap();
    let upper_case_reason = reason.to_uppercase();
    for (arguments, expected) in [
        (vec!["--limit", "1"], 1),
        (vec!["--consumer", "withdrawal-consumer"], 2),
        (vec!["--consumer", "deposit-consumer"], 0),
        (vec!["--reason", &upper_case_reason], 2),
        (vec!["--reason", "something else"], 0),
        (vec!["--since", "1h"], 2),
        (vec!["--before", "1h"], 0),
    ] {
        let (_, selected) = dlq(&stack, &[&["ls"], arguments.as_slice()].concat()).await;
        assert_eq!(selected.as_array().unwrap().len(), expected, "{arguments:?}");
    }

    let id = listed[1]["id"].to_string();
    let (code, text, _) = dlq_text(&stack, &["show", &id]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(r"first \u001b[2J\u009b31m poison"), "{text:?}");
    assert!(text.contains(reason), "{text}");
    let (_, shown) = dlq(&stack, &["show", "--reason", reason]).await;
    assert_eq!(shown.as_array().unwrap().len(), 2, "{shown}");
    let unknown = dlq_text(&stack, &["show", "999"]).await;
    assert_eq!(unknown.0, 2, "{unknown:?}");
}

/// Text from outside must not move the cursor, change colours or the direction of text, or set the
/// title of the terminal.
#[tokio::test]
async fn hostile_dead_letters_are_harmless_to_a_terminal() {
    const HOSTILE: &str = "\u{1b}[2J\u{9b}31m\u{1b}]0;owned\u{7}\u{202e}\r\u{8}";
    let stack = Stack::start("hostile-letters").await;
    let account = Client::teller(&stack).open_account("KRW").await;
    let jetstream = broker::connect(&stack).await;
    let in_header = HOSTILE.replace('\r', "");
    let forged = format!("transaction.{in_header}");
    let reason = [("Passbook-Reason", in_header.as_str())];
    let message = [("Passbook-Message-Id", in_header.as_str())];
    let quoted = serde_json::to_string(HOSTILE).unwrap();
    let hostile_number = deposit_command(&new_key(), &account, "7").replace("\"7\"", &quoted);
    let long = HOSTILE.repeat(900_000 / HOSTILE.len());
    let mut ids = Vec::new();
    for (subject, body, headers) in [
        ("transaction.deposit", long.as_str(), &reason),
        ("transaction.deposit", &hostile_number, &message),
        (&forged, &deposit_command(&new_key(), &account, "7"), &reason),
    ] {
        ids.push(publish_dead_letter(&jetstream, COMMANDS, subject, body, headers).await);
    }
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let harmless = |c: char| {
        c == '\n'
            || !(c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'))
    };
    let selected = |first: &[&'static str]| [first, &ids].concat();
    for (arguments, bound) in [
        (vec!["ls"], 10_000),
        (selected(&["redrive", "--dry-run"]), 10_000),
        (selected(&["redrive"]), 10_000),
        (selected(&["discard", "--dry-run"]), 10_000),
        // Each byte is shown as six.
        (vec!["show", ids[0]], 6_000_000),
        (vec!["show", ids[1]], 10_000),
        (vec!["show", ids[2]], 10_000),
    ] {
        let (_, stdout, stderr) = dlq_text(&stack, &arguments).await;
        assert!(!stdout.is_empty(), "{arguments:?}: {stderr}");
        let dir = stack.dir.to_str().unwrap();
        let as_json = [&["dlq"], &arguments[..], &["-o", "json", "--dir", dir]].concat();
        let as_json = process::run(&as_json).await;
        let as_json = String::from_utf8([as_json.stdout, as_json.stderr].concat()).unwrap();
        for text in [&stdout, &stderr, &as_json] {
            let wrong = text.chars().find(|&c| !harmless(c));
            assert_eq!(wrong, None, "{arguments:?}");
        }
        assert!(stdout.len() < bound, "{arguments:?}: {} bytes", stdout.len());
    }
}
