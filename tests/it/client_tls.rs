//! TLS of the Rust client, as the programs `pay-in` and `passbook reports` use it: the API is behind
//! a server with the certificate of a private authority.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tests::{
    Client, Stack,
    client::new_key,
    eventually,
    process::{passbook, run_with},
    stack::folder,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tokio_rustls::TlsAcceptor;

use crate::tls::{Authority, new_authority};

const SOON: Duration = Duration::from_secs(30);

/// Ends TLS in front of the API, with a certificate for `localhost`.
struct TlsServer {
    address: SocketAddr,
    accepted: AtomicUsize,
    refused: AtomicUsize,
}

impl TlsServer {
    async fn start(authority: &Authority, api: String) -> Arc<Self> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let server = Arc::new(Self { address, accepted, refused });
        let counts = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counts, acceptor, api) = (Arc::clone(&counts), acceptor.clone(), api.clone());
                tokio::spawn(async move {
                    let Ok(mut encrypted) = acceptor.accept(stream).await else {
                        counts.refused.fetch_add(1, Relaxed);
                        return;
                    };
                    counts.accepted.fetch_add(1, Relaxed);
                    let mut plain = TcpStream::connect(api).await.unwrap();
                    let _ = copy_bidirectional(&mut encrypted, &mut plain).await;
                });
            }
        });
        server
    }
}

#[tokio::test]
async fn the_client_sends_its_token_to_a_server_of_a_trusted_authority_and_the_right_name_only() {
    let stack = Stack::shared().await;
    let teller = Client::teller(stack);
    let account = teller.open_account("KRW").await;
    let dir = folder(&format!("client-tls-{}", new_key()));
    let (authority, trusted) = new_authority(&dir, "authority.pem");
    let (_, other) = new_authority(&dir, "other.pem");
    let api = stack.file().api.trim_start_matches("http://").to_owned();
    let payments = dir.join("payments.csv");
    let rows = format!("reference,account,amount,currency\ninvoice-1,{account},10,KRW\n");
    fs::write(&payments, rows).unwrap();
    let pay = |host: &str, server: &TlsServer, authorities: &Path| -> Child {
        let mut command = Command::new(passbook().with_file_name("pay-in"));
        command.args([Path::new("pay"), &payments, &dir.join(new_key())]);
        command
            .env("PASSBOOK_URL", format!("https://{host}:{}", server.address.port()))
            .env("PASSBOOK_TOKEN", teller.token())
            .env("SSL_CERT_FILE", authorities)
            .env_remove("SSL_CERT_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        command.spawn().unwrap()
    };

    for (what, host, authorities) in
        [("another authority", "localhost", &other), ("another host name", "127.0.0.1", &trusted)]
    {
        let server = TlsServer::start(&authority, api.clone()).await;
        let _client = pay(host, &server, authorities);
        eventually(&format!("the client has answered to {what}"), SOON, || async {
            (server.refused.load(Relaxed) + server.accepted.load(Relaxed) > 0).then_some(())
        })
        .await;
        assert_eq!(server.accepted.load(Relaxed), 0, "{what}");
    }

    let server = TlsServer::start(&authority, api).await;
    let status = pay("localhost", &server, &trusted).wait().await.unwrap();
    assert!(status.success(), "{status}");
    assert!(server.accepted.load(Relaxed) > 0);
    assert_eq!(teller.account(&account).await.text("balance"), "10");

    let url = format!("https://localhost:{}", server.address.port());
    for (authorities, code) in [(&trusted, 0), (&other, 2)] {
        let authorities = authorities.to_str().unwrap();
        let settings = [("PASSBOOK_API_URL", &*url), ("PASSBOOK_API_CA", authorities)];
        let settings = [&settings[..], &[("PASSBOOK_TOKEN", teller.token())]].concat();
        let output = run_with(&["reports", "ls"], &settings).await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}
