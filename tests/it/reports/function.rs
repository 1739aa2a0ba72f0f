//! A renderer function that is slow, silent, broken, or answers twice or too late.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use axum::http::{Method, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};
use tests::{broker, eventually, scale};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    renderer::{AT_ONCE, Answer, DETAIL},
    setup::{Setup, errors, limit, outcomes},
};

/// The renderer's time.
const TIMEOUT: &str = "PASSBOOK_REPORT_RENDERER_TIMEOUT=6s";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// At full size: a report of three minutes, and an ack wait of 30 seconds.
#[tokio::test]
async fn a_report_of_several_ack_waits_has_one_attempt_and_one_delivery() {
    let slow = Duration::from_secs(scale::size(180, 8));
    let setup = Setup::start("report-slow", 2, 0, &[]).await;
    setup.renderer.answer(move |_| Answer::File(slow));
    let asked = Instant::now();
    let report = setup.ask().await;
    setup.attempt_runs(&report, 1).await;
    let ended = setup.ended(&report).await;
    assert!(asked.elapsed() >= slow, "{ended:?}");
    assert_eq!((ended.text("state"), outcomes(&ended)), ("SUCCEEDED", vec!["SUCCEEDED"]));
    let jetstream = broker::connect(&setup.stack).await;
    let consumer = broker::consumer(&jetstream, "job", "job_cons").await;
    let delivered = consumer.cached_info().delivered.consumer_sequence;
    assert_eq!(delivered, 1, "the message was delivered again");
    println!("a report of {:.1?} had one delivery", asked.elapsed());
}

#[tokio::test]
async fn each_fault_of_the_function_costs_an_attempt_at_most() {
    let more = [TIMEOUT, "PASSBOOK_REPORT_CLEANUP_EVERY=1s"];
    let setup = Setup::start("report-function", 1, 0, &more).await;

    setup.renderer.answer(|_| AT_ONCE);
    let other = setup.ask().await;
    assert_eq!(setup.ended(&other).await.text("state"), "SUCCEEDED");

    an_older_copy_of_the_database_gives_no_file_a_second_time(&setup, &other).await;

    // Silent: ended by the renderer's time.
    first_attempt(&setup, Answer::Nothing, "renderer").await;

    // Broken.
    let broken = Answer::Status(StatusCode::INTERNAL_SERVER_ERROR);
    first_attempt(&setup, broken, "500 Internal Server Error: the function failed").await;

    // A reference to the file of another attempt, to nothing, and with a wrong digest.
    let reference = |href: String, content: &[u8]| {
        let size = content.len();
        json!({ "href": href, "sha256": hex(&Sha256::digest(content)), "size": size })
    };
    let outside = reference(format!("{other}/1/statement.csv"), b"x");
    first_attempt(&setup, Answer::Reference(outside), "outside").await;

    // By reference: the file is in the storage.
    let storage = setup.stack.dir.join("artifacts");
    let by_reference = move |wrong: bool| {
        let storage = storage.clone();
        move |call: &super::renderer::Call| {
            let folder = format!("{}/{}", call.report, call.attempt);
            let content = call.file();
            fs::create_dir_all(storage.join(&folder)).unwrap();
            fs::write(storage.join(&folder).join("result.csv"), &content).unwrap();
            let told = if wrong && call.attempt == 1 { "other" } else { &content };
            Answer::Reference(reference(format!("{folder}/result.csv"), told.as_bytes()))
        }
    };
    setup.renderer.answer(by_reference(false));
    let report = setup.ask().await;
    let ended = setup.ended(&report).await;
    assert_eq!((ended.text("state"), outcomes(&ended)), ("SUCCEEDED", vec!["SUCCEEDED"]));
    assert_eq!(setup.csv(&report).await, format!("{report}/1.csv"));
    // A second answer with other bytes: nobody gets them.
    let stored = setup.stack.dir.join("artifacts").join(&report).join("1/result.csv");
    let content = fs::read(&stored).unwrap();
    fs::write(&stored, vec![b'x'; content.len()]).unwrap();
    let path = format!("/v1/reports/{report}/artifacts/csv");
    let damaged = setup.client.send(Method::GET, &path, &[], None).await;
    // The replica breaks off. If it had sent nothing, the proxy answers for it.
    assert!(damaged.as_ref().map_or(true, |answer| answer.status == 502), "{damaged:?}");
    fs::write(&stored, "shorter").unwrap();
    let damaged = setup.client.get(&path).await;
    assert_eq!((damaged.status, damaged.problem()), (500, "artifact-damaged"));

    setup.renderer.answer(by_reference(true));
    let report = setup.ask().await;
    let ended = setup.ended(&report).await;
    assert_eq!(outcomes(&ended), ["FAILED", "SUCCEEDED"], "{ended:?}");
    assert_eq!(setup.csv(&report).await, format!("{report}/2.csv"));
    assert_eq!(setup.files(&report), ["2/result.csv"]);

    // After its time: the file of the first attempt appears once the second one has the report.
    let late = setup.stack.dir.join("artifacts").join(&report).join("1/result.csv");
    fs::create_dir_all(late.parent().unwrap()).unwrap();
    fs::write(&late, "late").unwrap();
    assert_eq!(setup.csv(&report).await, format!("{report}/2.csv"));
    // Older than any renderer may be.
    let file = fs::OpenOptions::new().append(true).open(&late).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    eventually("the late file is deleted", limit(), || async { (!late.exists()).then_some(()) })
        .await;
    assert_eq!(setup.files(&report), ["2/result.csv"]);

    only_a_document_that_can_not_be_rendered_is_not_tried_again(&setup).await;
}

/// The type of a problem decides. An earlier renderer answers 422 also during an upgrade, and if
/// its storage is another one.
async fn only_a_document_that_can_not_be_rendered_is_not_tried_again(setup: &Setup) {
    let status = "the renderer answered 422 Unprocessable Entity";
    let plain = Answer::Status(StatusCode::UNPROCESSABLE_ENTITY);
    first_attempt(setup, plain, &format!("{status}: the function failed")).await;
    first_attempt(setup, Answer::Problem("invalid-field"), &format!("{status}: {DETAIL}")).await;

    setup.renderer.answer(|_| Answer::Problem("not-renderable"));
    let report = setup.ask().await;
    let ended = setup.ended(&report).await;
    assert_eq!((ended.text("state"), outcomes(&ended)), ("FAILED", vec!["FAILED"]));
    assert_eq!(setup.alerts.tries(), 0);

    // A renderer that never fits: five attempts, one alert.
    setup.renderer.answer(|_| Answer::Problem("invalid-field"));
    let report = setup.ask().await;
    let ended = setup.ended(&report).await;
    assert_eq!((ended.text("state"), outcomes(&ended)), ("FAILED", vec!["FAILED"; 5]));
    eventually("the alert is taken", limit(), || async {
        (!setup.alerts.taken().is_empty()).then_some(())
    })
    .await;
    assert_eq!(setup.alerts.taken()[0]["reportId"], json!(report));
}

/// As a standby that was promoted without the claim: the number of the attempt is given again.
async fn an_older_copy_of_the_database_gives_no_file_a_second_time(setup: &Setup, report: &str) {
    let before = setup.files(report);
    for statement in [
        "DELETE FROM report_artifacts WHERE report_id::text = $1",
        "DELETE FROM report_attempts WHERE report_id::text = $1",
        "UPDATE reports SET state = 'QUEUED', attempt = 0, fence = NULL, ended_at = NULL,
             sent_at = NULL WHERE id::text = $1",
    ] {
        sqlx::query(statement).bind(report).execute(&setup.reports).await.unwrap();
    }
    assert_eq!(setup.ended(report).await.text("state"), "SUCCEEDED");
    assert_eq!(setup.csv(report).await, format!("{report}/1.csv"));
    let files = setup.files(report);
    assert!(files.len() == 2 && files.contains(&before[0]), "{before:?} {files:?}");
}

/// Answers the first attempt so, and checks that it fails and the second one succeeds.
async fn first_attempt(setup: &Setup, answer: Answer, error: &str) {
    setup.renderer.answer(move |call| match call.attempt {
        1 => answer.clone(),
        _ => AT_ONCE,
    });
    let report = setup.ask().await;
    let ended = setup.ended(&report).await;
    assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
    assert_eq!(outcomes(&ended), ["FAILED", "SUCCEEDED"], "{ended:?}");
    let found = errors(&ended)[0].as_str().unwrap();
    assert!(found.contains(error), "{found}");
    assert_eq!(setup.csv(&report).await, format!("{report}/2.csv"));
    assert_eq!(setup.files(&report).len(), 1);
}

#[tokio::test]
async fn a_second_answer_is_not_taken_for_the_next_file() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("PASSBOOK_REPORT_RENDERER_URL=http://{}/", listener.local_addr().unwrap());
    let _function = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer_twice(connection));
        }
    }));
    let setup = Setup::start("report-twice", 1, 0, &[&url]).await;
    let formats = ["csv", "pdf", "csv", "pdf"];
    for formats in [&formats[..2], &formats[1..3]] {
        let report = setup.ask_for(formats).await;
        let ended = setup.ended(&report).await;
        assert_eq!(ended.text("state"), "SUCCEEDED", "{ended:?}");
        for format in formats {
            let path = format!("/v1/reports/{report}/artifacts/{format}");
            let file = setup.client.get(&path).await;
            assert_eq!(file.bytes, format.as_bytes(), "{ended:?}");
        }
    }
}

/// A function that sends each answer twice. The file is the name of its format.
async fn answer_twice(mut connection: tokio::net::TcpStream) {
    let mut received = Vec::new();
    while connection.read_buf(&mut received).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if body.len() < length {
            continue;
        }
        let request: serde_json::Value = serde_json::from_str(body).unwrap();
        let format = request["format"].as_str().unwrap();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\ncontent-length: {}\r\n\r\n{format}",
            format.len()
        );
        received.clear();
        if connection.write_all(answer.repeat(2).as_bytes()).await.is_err() {
            return;
        }
    }
}
