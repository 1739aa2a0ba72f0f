//! Webhooks: deliveries to receivers in the tests. The event is that of an opened account, so the
//! stack has no transaction-service.

mod audit;
mod clocks;
mod deliveries;
mod endpoints;
mod failover;
mod failures;
mod held_rows;
mod lost_answers;
mod pauses;
mod places;
pub(crate) mod receiver;
mod refused;
mod replicas;
mod sealing;
mod shown_failures;
mod slow_reads;
mod stops;
mod transaction_ids;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Client, Response, Stack, client::new_key, stack::initialized_folder};
use tokio::sync::OnceCell;
use uuid::Uuid;

use self::receiver::Receiver;

const SOON: Duration = Duration::from_secs(30);
/// The time limit of an attempt in these tests.
const TIMEOUT: Duration = Duration::from_secs(2);

static STACK: OnceCell<Stack> = OnceCell::const_new();

/// The stack of these tests, with two replicas of the webhook-service.
pub(crate) async fn shared() -> &'static Stack {
    STACK.get_or_init(|| start("webhooks", "2")).await
}

/// A stack whose webhook-service may reach 127.0.0.1, and no other private address.
async fn start(name: &str, replicas: &str) -> Stack {
    start_with(name, &["--webhook-replicas", replicas], &[]).await
}

/// As [`start`], with further arguments and settings.
async fn start_with(name: &str, arguments: &[&str], settings: &[String]) -> Stack {
    let own = [
        format!("PASSBOOK_WEBHOOK_TIMEOUT={}s", TIMEOUT.as_secs()),
        "PASSBOOK_WEBHOOK_ALLOWED_NETWORKS=127.0.0.1/32".to_owned(),
        format!("PASSBOOK_WEBHOOK_SECRET_KEYS={}", sealing::keys()),
        "PASSBOOK_WEBHOOK_RESEAL_AFTER=1s".to_owned(),
    ];
    let settings = [&own[..], settings].concat();
    let fixed = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "0"];
    let arguments = [&fixed[..], arguments].concat();
    Stack::start_under(&initialized_folder(name).await, &settings, &arguments).await
}

/// A new customer.
fn customer(stack: &Stack) -> Client {
    Client::customer(stack, &new_key())
}

/// An endpoint, with the secret of its creation.
pub(crate) struct Endpoint {
    client: Client,
    path: String,
    created: Response,
}

impl Endpoint {
    /// Creates an endpoint of this caller for the receiver.
    pub(crate) async fn create(client: &Client, receiver: &Receiver) -> Self {
        Self::with(client, json!({ "url": receiver.url })).await
    }

    async fn with(client: &Client, body: Value) -> Self {
        let created = client.post("/v1/webhook-endpoints", &[], &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        let path = created.header("location").unwrap().to_owned();
        Self { client: client.clone(), path, created }
    }

    pub(crate) fn secret(&self) -> &str {
        self.created.text("secret")
    }

    fn id(&self) -> Uuid {
        Uuid::parse_str(self.created.text("webhookEndpointId")).unwrap()
    }

    async fn show(&self) -> Value {
        self.client.get(&self.path).await.body
    }

    async fn change(&self, body: &Value) -> Response {
        send(&self.client, Method::PATCH, &self.path, body).await
    }

    async fn post(&self, action: &str, body: &Value) -> Response {
        self.client.post(&format!("{}/{action}", self.path), &[], body).await
    }
}

async fn send(client: &Client, method: Method, path: &str, body: &Value) -> Response {
    let json = [("content-type", "application/json")];
    client.send(method, path, &json, Some(body.to_string().into())).await.unwrap()
}

/// Opens this many accounts. Each makes an event.
async fn open_accounts(client: &Client, number: usize) -> Vec<String> {
    let mut accounts = Vec::new();
    for _ in 0..number {
        accounts.push(client.open_account("KRW").await);
    }
    accounts
}
