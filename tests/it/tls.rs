//! TLS to the broker: with a configured CA, clients accept only a broker with a
//! certificate of that CA.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tests::{
    Stack, eventually,
    process::{passbook, run_with},
};
use tokio::process::{Child, Command};

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

/// A CA, and the file with its certificate.
pub(crate) fn new_authority(dir: &Path, name: &str) -> (Authority, PathBuf) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let file = dir.join(name);
    fs::write(&file, authority.pem()).unwrap();
    (authority, file)
}

/// Starts a second nats-server with TLS and a certificate of this CA. Gives its URL.
fn start_tls_server(stack: &Stack, authority: &Authority) -> (Child, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let file = |name: &str| stack.dir.join(name);
    fs::write(file("server.crt"), certificate.pem()).unwrap();
    fs::write(file("server.key"), key.serialize_pem()).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let configuration = format!(
        "listen: \"{free}\"\njetstream {{ store_dir: {:?}, max_file_store: 9GB }}\ntls {{ cert_file: {:?}, key_file: {:?} }}\n",
        file("encrypting"),
        file("server.crt"),
        file("server.key")
    );
    fs::write(file("encrypting.conf"), configuration).unwrap();
    let program = fs::read_link(format!("/proc/{}/exe", stack.pid("nats"))).unwrap();
    let mut command = Command::new(program);
    command.arg("--config").arg(file("encrypting.conf")).stderr(Stdio::null()).kill_on_drop(true);
    (command.spawn().unwrap(), format!("nats://{free}"))
}

#[tokio::test]
async fn with_a_ca_configured_clients_accept_no_other_server() {
    let stack = Stack::start_servers("tls").await;
    let (authority, authority_file) = new_authority(&stack.dir, "authority.pem");
    let (_, other_file) = new_authority(&stack.dir, "other.pem");
    let (_server, url) = start_tls_server(&stack, &authority);
    let [ca, other_ca] = [&authority_file, &other_file].map(|file| file.to_str().unwrap());
    let streams = async |url: &str, more: &[(&str, &str)]| {
        let settings = [&[("PASSBOOK_NATS_URL", url)], more].concat();
        let output = run_with(&["streams"], &settings).await;
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let with_wait = [("PASSBOOK_NATS_CA", ca), ("PASSBOOK_WAIT", "20s")];
    assert_eq!(streams(&url, &with_wait).await.0, 0);
    for (what, url, settings) in [
        ("another CA", &url, &[("PASSBOOK_NATS_CA", other_ca)][..]),
        ("the CAs of the system", &url, &[]),
        ("a server without TLS", &stack.file().nats, &[("PASSBOOK_NATS_CA", ca)]),
    ] {
        let (code, error) = streams(url, settings).await;
        assert_eq!(code, 2, "{what}: {error}");
    }

    // The same for a service.
    for (file, ready) in [(ca, true), (other_ca, false)] {
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut service = Command::new(passbook().with_file_name("transaction-service"));
        service
            .env("PASSBOOK_DATABASE_URL", &stack.file().databases.transaction)
            .env("PASSBOOK_NATS_URL", &url)
            .env("PASSBOOK_NATS_CA", file)
            .env("PASSBOOK_ADMIN_LISTEN", admin.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let _service = service.spawn().unwrap();
        let probe = async || {
            let response = reqwest::get(format!("http://{admin}/readyz")).await.ok()?;
            Some((response.status() == 200, response.text().await.ok()?))
        };
        if ready {
            eventually("the service is ready", Duration::from_secs(30), || async {
                probe().await.filter(|(is_ready, _)| *is_ready).map(drop)
            })
            .await;
        } else {
            let up = "\"name\":\"postgres\",\"up\":true";
            let what = "the service has reached PostgreSQL";
            let (is_ready, body) = eventually(what, Duration::from_secs(30), || async {
                probe().await.filter(|(_, body)| body.contains(up))
            })
            .await;
            assert!(!is_ready && body.contains("\"name\":\"nats\",\"up\":false"), "{body}");
        }
    }
}
