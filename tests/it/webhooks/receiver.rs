//! A receiver of webhooks, and the checks of its library.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{LOCATION, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    hmac,
    signature::{ED25519, UnparsedPublicKey},
};
use serde_json::Value;
use tests::wait;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// No answer: the connection stays open.
pub(crate) const SILENT: u16 = 0;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signatures: Vec<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: SystemTime,
    /// The status of the answer, or [`SILENT`].
    pub(crate) answer: u16,
}

impl Delivery {
    pub(crate) fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn is_taken(&self) -> bool {
        (200..300).contains(&self.answer)
    }

    fn content(&self) -> Vec<u8> {
        [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", &self.body].concat()
    }

    /// Whether a signature is by this secret, `whsec_…`.
    pub(crate) fn is_signed_by(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        self.any("v1,", |signature| hmac::verify(&key, &self.content(), signature).is_ok())
    }

    /// Whether a signature is by the owner of this public key, `whpk_…`.
    pub(crate) fn is_signed_by_owner_of(&self, public_key: &str) -> bool {
        let key = STANDARD.decode(public_key.strip_prefix("whpk_").unwrap()).unwrap();
        let key = UnparsedPublicKey::new(&ED25519, key);
        self.any("v1a,", |signature| key.verify(&self.content(), signature).is_ok())
    }

    fn any(&self, version: &str, verifies: impl Fn(&[u8]) -> bool) -> bool {
        let signatures = self.signatures.iter().filter_map(|text| text.strip_prefix(version));
        signatures.map(|text| STANDARD.decode(text).unwrap()).any(|signature| verifies(&signature))
    }
}

#[derive(Debug, Clone)]
struct Shared {
    status: Arc<AtomicU16>,
    /// The answers to the events of some accounts.
    by_account: Arc<Mutex<HashMap<String, u16>>>,
    location: Arc<Mutex<Option<String>>>,
    /// Milliseconds until each answer.
    delay: Arc<AtomicU64>,
    /// `Retry-After` of the answers with 429.
    retry_after: Arc<AtomicU64>,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Shared {
    fn status_for(&self, body: &[u8]) -> u16 {
        let event: Option<Value> = serde_json::from_slice(body).ok();
        let account = event.as_ref().and_then(|event| event["accountId"].as_str());
        let by_account = self.by_account.lock().unwrap();
        let status = account.and_then(|account| by_account.get(account).copied());
        status.unwrap_or_else(|| self.status.load(Ordering::Relaxed))
    }
}

/// An HTTP server that keeps what it receives, and gives one answer.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) port: u16,
    shared: Shared,
    _server: AbortOnDropHandle<()>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST).await
    }

    pub(crate) async fn start_at(address: Ipv4Addr) -> Self {
        let status = Arc::new(AtomicU16::new(204));
        let shared = Shared {
            status,
            by_account: Arc::default(),
            location: Arc::default(),
            delay: Arc::default(),
            retry_after: Arc::default(),
            deliveries: Arc::default(),
        };
        let router = Router::new().fallback(receive).with_state(shared.clone());
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("http://{address}:{port}/hooks?a=b");
        let server = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { url, port, shared, _server: AbortOnDropHandle::new(server) }
    }

    /// Sets the answer, also of the requests to come.
    pub(crate) fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// Sets the answer to the events of this account, whatever the others get.
    pub(crate) fn answer_to(&self, account: &str, status: u16) {
        self.shared.by_account.lock().unwrap().insert(account.to_owned(), status);
    }

    /// Answers after this time.
    pub(crate) fn answer_after(&self, delay: Duration) {
        self.shared.delay.store(delay.as_millis().try_into().unwrap(), Ordering::Relaxed);
    }

    /// Answers 429, with `Retry-After`.
    pub(crate) fn retry_after(&self, pause: Duration) {
        self.shared.retry_after.store(pause.as_secs(), Ordering::Relaxed);
        self.answer(429);
    }

    /// Answers with a redirect to this URL from now on.
    pub(crate) fn redirect(&self, url: &str) {
        *self.shared.location.lock().unwrap() = Some(url.to_owned());
        self.answer(307);
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.shared.deliveries.lock().unwrap().clone()
    }

    /// Waits for this many deliveries.
    pub(crate) async fn received(&self, number: usize, within: Duration) -> Vec<Delivery> {
        wait::eventually_now(&format!("{number} deliveries arrive"), within, || {
            Some(self.deliveries()).filter(|deliveries| deliveries.len() >= number)
        })
        .await
    }

    /// The number of different events among these deliveries.
    pub(crate) fn count_events(&self, counts: impl Fn(&Delivery) -> bool) -> usize {
        let deliveries = self.shared.deliveries.lock().unwrap();
        let ids = deliveries.iter().filter(|delivery| counts(delivery));
        ids.map(|delivery| delivery.id.as_str()).collect::<HashSet<_>>().len()
    }

    /// Waits until the event of each of these accounts has arrived and was taken.
    pub(crate) async fn received_all(&self, accounts: &[String], within: Duration) {
        wait::eventually_now("an event of each account is taken", within, || {
            let deliveries = self.deliveries();
            let taken = deliveries.iter().filter(|delivery| delivery.is_taken());
            let taken: Vec<_> = taken.map(Delivery::event).collect();
            let has = |account: &String| taken.iter().any(|event| event["accountId"] == **account);
            accounts.iter().all(has).then_some(())
        })
        .await;
    }
}

async fn receive(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let status = shared.status_for(&body);
    let delivery = Delivery {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signatures: text("webhook-signature").split(' ').map(str::to_owned).collect(),
        body: body.to_vec(),
        at: SystemTime::now(),
        answer: status,
    };
    shared.deliveries.lock().unwrap().push(delivery);
    tokio::time::sleep(Duration::from_millis(shared.delay.load(Ordering::Relaxed))).await;
    match status {
        SILENT => std::future::pending().await,
        429 => {
            let pause = shared.retry_after.load(Ordering::Relaxed).to_string();
            (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, pause)]).into_response()
        }
        status => {
            let location = shared.location.lock().unwrap().clone().map(|url| [(LOCATION, url)]);
            (StatusCode::from_u16(status).unwrap(), location, ()).into_response()
        }
    }
}
