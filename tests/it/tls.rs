//! A broker that encrypts: our clients talk to it, and with an authority given, to
//! no other.

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
    stack::{folder, passbook, run_with},
};
use tokio::process::{Child, Command};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// An authority, and the file that holds its certificate.
fn authority(dir: &Path, name: &str) -> (Authority, PathBuf) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let file = dir.join(name);
    fs::write(&file, authority.pem()).unwrap();
    (authority, file)
}

/// A nats-server beside the stack's, under a certificate of this authority. Its URL.
fn encrypting(stack: &Stack, authority: &Authority) -> (Child, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let file = |name: &str| stack.dir.join(name);
    fs::write(file("server.crt"), certificate.pem()).unwrap();
    fs::write(file("server.key"), key.serialize_pem()).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let configuration = format!(
        "listen: \"{free}\"\njetstream {{ store_dir: {:?} }}\ntls {{ cert_file: {:?}, key_file: {:?} }}\n",
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
    let none = ["--port", "0", "--account-replicas", "0", "--transaction-replicas", "0"];
    let stack = Stack::start_in(&folder("tls"), &none).await;
    let (mine, authority_file) = authority(&stack.dir, "authority.pem");
    let (_, other_file) = authority(&stack.dir, "other.pem");
    let (_server, url) = encrypting(&stack, &mine);
    let [ours, others] = [&authority_file, &other_file].map(|it| it.to_str().unwrap());
    let streams = async |url: &str, more: &[(&str, &str)]| {
        let settings = [&[("PASSBOOK_NATS_URL", url)], more].concat();
        let output = run_with(&["streams"], &settings).await;
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let patient = [("PASSBOOK_NATS_CA", ours), ("PASSBOOK_WAIT", "20s")];
    assert_eq!(streams(&url, &patient).await.0, 0);
    for (what, url, settings) in [
        ("another authority", &url, &[("PASSBOOK_NATS_CA", others)][..]),
        ("the system's authorities", &url, &[]),
        ("a server that does not encrypt", &stack.file().nats, &[("PASSBOOK_NATS_CA", ours)]),
    ] {
        let (code, error) = streams(url, settings).await;
        assert_eq!(code, 2, "{what}: {error}");
    }

    // The services, too.
    for (file, ready) in [(ours, true), (others, false)] {
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
        let look = async || {
            let answer = reqwest::get(format!("http://{admin}/readyz")).await.ok()?;
            Some((answer.status() == 200, answer.text().await.ok()?))
        };
        if ready {
            eventually("it is ready", Duration::from_secs(30), || async {
                look().await.filter(|it| it.0).map(|_| ())
            })
            .await;
        } else {
            let up = "\"name\":\"postgres\",\"up\":true";
            let (is_ready, told) = eventually("it is there", Duration::from_secs(30), || async {
                look().await.filter(|it| it.1.contains(up))
            })
            .await;
            assert!(!is_ready && told.contains("\"name\":\"nats\",\"up\":false"), "{told}");
        }
    }
}
