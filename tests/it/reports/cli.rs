//! `passbook reports` and `passbook statement verify`, as a person uses them.

use std::{fs, path::Path, process::Output};

use serde_json::Value;
use tests::{Client, Stack, client::new_key, process, stack::folder};

use super::{
    renderer::{AT_ONCE, Answer},
    setup::Setup,
    statement, used_account,
};

/// Runs a command on the stack. Gives its exit code and its JSON.
async fn passbook(stack: &Stack, command: &str, arguments: &[&str]) -> (i32, Value) {
    let dir = ["--dir", stack.dir.to_str().unwrap(), "-o", "json"];
    let output = process::run(&[&["reports", command], arguments, &dir].concat()).await;
    (code(&output), json(&output))
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// The JSON on stdout, or else the text on stderr.
fn json(output: &Output) -> Value {
    let error = || Value::from(String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| error())
}

async fn verify(file: &Path, key: &[&str]) -> (i32, Value) {
    let arguments = [&["statement", "verify", file.to_str().unwrap(), "-o", "json"], key].concat();
    let output = process::run(&arguments).await;
    (code(&output), json(&output))
}

#[tokio::test]
async fn a_statement_is_asked_for_downloaded_and_verified_offline() {
    let stack = Stack::shared().await;
    let client = Client::teller(stack);
    let account = used_account(&client).await;
    let period = statement(&account, &[]);
    let (from, to) = (period["from"].as_str().unwrap(), period["to"].as_str().unwrap());
    let key = new_key();
    let ask = ["--account", &account, "--from", from, "--to", to, "--format", "csv,json"];
    let ask = [&["statement"], &ask[..], &["--idempotency-key", &key, "--wait"]].concat();
    let (code, report) = passbook(stack, "create", &ask).await;
    assert_eq!((code, &report["state"]), (0, &Value::from("SUCCEEDED")), "{report:#}");
    let id = report["reportId"].as_str().unwrap();
    let (code, again) = passbook(stack, "create", &ask).await;
    assert_eq!((code, &again["reportId"]), (0, &report["reportId"]), "the same key: {again:#}");
    let (code, shown) = passbook(stack, "get", &[id]).await;
    assert_eq!((code, &shown["artifacts"]), (0, &report["artifacts"]), "{shown:#}");
    let (code, listed) = passbook(stack, "ls", &["--kind", "statement", "--limit", "200"]).await;
    let listed = listed.as_array().unwrap();
    assert!(code == 0 && listed.iter().any(|other| other["reportId"] == id), "{listed:#?}");

    let target = folder("downloads");
    let download = [id, "--output-dir", target.to_str().unwrap(), "--signature"];
    let (code, files) = passbook(stack, "download", &download).await;
    assert_eq!((code, files.as_array().map(Vec::len)), (0, Some(2)), "{files:#}");
    let path = |file: &Value| target.join(file["path"].as_str().unwrap());
    let file = path(files.as_array().unwrap().iter().find(|file| file["format"] == "csv").unwrap());
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, "mine").unwrap();
    let (code, refused) = passbook(stack, "download", &download).await;
    assert!(code == 2 && refused.to_string().contains("--force"), "{refused}");
    assert_eq!(fs::read(&file).unwrap(), b"mine", "nothing is replaced");
    let forced = [&download[..], &["--force"]].concat();
    assert_eq!(passbook(stack, "download", &forced).await.0, 0);
    assert_eq!(fs::read(&file).unwrap(), bytes);
    let names = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), 4, "two files, two signatures, and no remains");

    let dir = stack.dir.to_str().unwrap();
    let printed = process::run(&["reports", "signing-key", "--dir", dir]).await;
    let key_file = target.join("key.pem");
    fs::write(&key_file, &printed.stdout).unwrap();
    let own = ["--public-key", key_file.to_str().unwrap()];
    let (code, valid) = verify(&file, &own).await;
    assert_eq!((code, &valid["originProven"]), (0, &Value::from(true)), "{valid:#}");
    let (code, valid) = verify(&file, &["--allow-embedded-key"]).await;
    assert_eq!((code, &valid["originProven"]), (0, &Value::from(false)), "{valid:#}");
    let (code, asked) = verify(&file, &[]).await;
    assert!(code == 2 && asked.to_string().contains("--public-key"), "{asked}");
    let other = target.join("other.pem");
    let pem = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    fs::write(&other, format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n"))
        .unwrap();
    let (code, found) = verify(&file, &["--public-key", other.to_str().unwrap()]).await;
    assert_eq!(
        (code, &found["finding"]),
        (1, &Value::from("the signature was made with another key"))
    );
    let mut changed = bytes.clone();
    changed[0] ^= 1;
    fs::write(&file, changed).unwrap();
    let (code, found) = verify(&file, &own).await;
    assert!(code == 1 && found["finding"].to_string().contains("changed"), "{found:#}");
    fs::remove_dir_all(&target).unwrap();
}

#[tokio::test]
async fn commands_that_wait_exit_with_1_unless_the_report_succeeded() {
    let setup = Setup::start("report-cli", 1, 0, &["PASSBOOK_REPORT_MAX_DELIVER=1"]).await;
    setup.renderer.answer(|_| Answer::Nothing);
    let running = setup.ask().await;
    setup.attempt_runs(&running, 1).await;
    let stack = &setup.stack;
    let (code, error) = passbook(stack, "download", &[&running]).await;
    assert!(code == 2 && error.to_string().contains("reports wait"), "{error}");
    let (code, error) = passbook(stack, "wait", &[&running, "--timeout", "1s"]).await;
    assert!(code == 2 && error.to_string().contains("has not ended"), "{error}");
    let waiting = async { passbook(stack, "wait", &[&running]).await };
    let cancelling = async { passbook(stack, "cancel", &[&running]).await };
    let ((waited, report), (cancelled, _)) = futures::join!(waiting, cancelling);
    assert_eq!((waited, cancelled), (1, 0));
    assert_eq!(report["state"], "CANCELLED", "{report:#}");
    let (code, error) = passbook(stack, "cancel", &[&running]).await;
    assert!(code == 2 && error.to_string().contains("409"), "{error}");

    setup.renderer.answer(|_| Answer::Status(axum::http::StatusCode::INTERNAL_SERVER_ERROR));
    let (code, failed) = passbook(stack, "retry", &[&running, "--wait"]).await;
    assert_eq!((code, &failed["state"]), (1, &Value::from("FAILED")), "{failed:#}");
    assert_eq!(failed["retryOf"], Value::from(running));
    setup.renderer.answer(|_| AT_ONCE);
    let id = failed["reportId"].as_str().unwrap();
    let (code, succeeded) = passbook(stack, "retry", &[id, "--wait"]).await;
    assert_eq!((code, &succeeded["state"]), (0, &Value::from("SUCCEEDED")), "{succeeded:#}");
}

#[tokio::test]
async fn a_rejected_request_says_what_to_do() {
    let stack = Stack::shared().await;
    let (code, error) = passbook(stack, "get", &[&new_key()]).await;
    assert!(code == 2 && error.to_string().contains("There is no such report"), "{error}");
    let api = stack.file().api;
    let with = async |api: &str, token: &str| {
        let settings = [("PASSBOOK_API_URL", api), ("PASSBOOK_TOKEN", token)];
        let output = process::run_with(&["reports", "ls"], &settings).await;
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = with(&api, "secret-token").await;
    assert!(code == 2 && error.contains("PASSBOOK_TOKEN"), "{error}");
    assert!(!error.contains("secret-token"), "{error}");
    let (code, error) = with("http://127.0.0.1:1", "t").await;
    assert!(code == 2 && error.contains("PASSBOOK_API_URL"), "{error}");
    let (code, error) = with("127.0.0.1", "t").await;
    assert!(code == 2 && error.contains("https://host"), "{error}");
}
