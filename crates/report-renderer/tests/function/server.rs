//! A function on a port of its own, and its requests.

use std::{fs::File, io::Read, path::Path, time::Duration};

use clap::Parser;
use report_document::{Document, Format, TEMPLATE};
use report_renderer::function::{Config, run};
use reqwest::{Response, StatusCode};
use runtime::http::listener::listen;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::documents::MadeEntries;

pub(crate) const REPORT: &str = "0199d4a2-7c1e-7b7a-9a55-3f1d8f6f2c11";
pub(crate) const TOKEN: &str = "s3cret";

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) http: reqwest::Client,
    pub(crate) scratch: tempfile::TempDir,
    pub(crate) storage: tempfile::TempDir,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<anyhow::Result<()>>,
}

/// Starts a function with these flags beside those that every test needs.
pub(crate) async fn start(flags: &[&str]) -> Server {
    let (scratch, storage) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("file://{}", storage.path().display());
    let mut arguments = vec!["report-renderer", "--report-renderer-token", TOKEN];
    arguments.extend(["--report-scratch-dir", scratch.path().to_str().unwrap()]);
    if !flags.contains(&"no-storage") {
        arguments.extend(["--report-storage-url", &url]);
    }
    arguments.extend(flags.iter().filter(|flag| **flag != "no-storage"));
    let config = Config::parse_from(arguments);
    let listening = listen("--listen", ([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}/", listening.local_addr());
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(config, listening, stop.clone()));
    Server { url, http: reqwest::Client::new(), scratch, storage, stop, running }
}

impl Server {
    pub(crate) async fn post(&self, body: &Value) -> Response {
        self.http.post(&self.url).bearer_auth(TOKEN).json(body).send().await.unwrap()
    }

    /// The status and the problem's type and detail.
    pub(crate) async fn refusal(&self, body: &Value) -> (StatusCode, String, String) {
        let answer = self.post(body).await;
        let status = answer.status();
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.unwrap();
        let text = |name: &str| problem[name].as_str().unwrap().to_owned();
        (status, text("type").replace("/problems/", ""), text("detail"))
    }

    /// Stores a document as the report-service does. Returns the rest of its request.
    pub(crate) fn store(&self, document: &Document<'_>) -> Value {
        let folder = self.storage.path().join(REPORT).join("1");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("document.ndjson");
        document.write_lines(std::io::BufWriter::new(File::create(&path).unwrap())).unwrap();
        json!({
            "documentHref": format!("{REPORT}/1/document.ndjson"),
            "documentSha256": sha256(&path),
            "documentSize": path.metadata().unwrap().len(),
        })
    }

    pub(crate) fn scratch_files(&self) -> usize {
        std::fs::read_dir(self.scratch.path()).unwrap().count()
    }
}

pub(crate) fn sha256(path: &Path) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(std::fs::read(path).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A request for a statement, with `rest` as its document.
pub(crate) fn request(format: Format, rest: &Value) -> Value {
    let mut request = json!({
        "reportId": REPORT, "attempt": 1, "format": format, "kind": "statement", "template": TEMPLATE,
    });
    for (name, value) in rest.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

pub(crate) fn inline(document: &Document<'_>) -> Value {
    let mut json = Vec::new();
    document.write_json(&mut json).unwrap();
    json!({ "document": serde_json::from_slice::<Value>(&json).unwrap() })
}

pub(crate) fn small() -> MadeEntries {
    MadeEntries { count: 5, exponent: 2, extra: 0 }
}

/// The bytes that the library writes.
pub(crate) fn expected(format: Format, document: &Document<'_>) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    report_renderer::render(format, document, file.as_file_mut(), &mut |_| true).unwrap();
    let mut bytes = Vec::new();
    File::open(file.path()).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Waits until the condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within 30 seconds");
}
