//! `examples/rust`, as a user runs it: the program dies, connections break, others forge webhooks.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::Stdio,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use client::{
    CreateWebhookEndpoint, Decimal, EventFilter, IdempotencyKey, Movement, OpenAccount, Record,
    RecordFilter, Status,
};
use nix::sys::signal::Signal;
use ring::hmac;
use serde_json::Value;
use tests::{
    Client, Stack,
    client::new_key,
    eventually,
    process::{Paused, passbook, signal},
    stack::{folder, initialized_folder},
    wait,
};
use tokio::{
    process::{Child, Command},
    sync::OnceCell,
};

const SOON: Duration = Duration::from_secs(60);
/// Secrets are at least 24 bytes.
const OTHER_SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

static STACK: OnceCell<Stack> = OnceCell::const_new();

async fn shared() -> &'static Stack {
    let start = || async {
        let arguments = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "1"];
        let arguments = [&arguments[..], &["--webhook-replicas", "1"]].concat();
        Stack::start_in(&initialized_folder("examples").await, &arguments).await
    };
    STACK.get_or_init(start).await
}

/// A merchant with an account and a folder for the program's files.
struct Merchant {
    stack: &'static Stack,
    api: client::Client,
    token: String,
    account: client::AccountId,
    dir: PathBuf,
}

impl Merchant {
    async fn new() -> Self {
        let (stack, name) = (shared().await, new_key());
        let token = Client::merchant(stack, &name).token().to_owned();
        let api = client::Client::new(&stack.file().api, &token).unwrap();
        let opened = api.open_account(&OpenAccount::new("USD"), &IdempotencyKey::random()).await;
        let account = opened.unwrap().account_id;
        Self { stack, api, token, account, dir: folder(&format!("example-{name}")) }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// The program with these arguments. Its stdout and stderr go to the files `out` and `err`.
    fn start(&self, arguments: &[&str], key: Option<&str>) -> Child {
        let mut command = Command::new(passbook().with_file_name("pay-in"));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command.env("PASSBOOK_URL", &self.stack.file().api).env("PASSBOOK_TOKEN", &self.token);
        if let Some(key) = key {
            command.env("PASSBOOK_WEBHOOK_KEY", key);
        }
        let output = |name| OpenOptions::new().append(true).create(true).open(self.path(name));
        command.stdout(output("out").unwrap()).stderr(output("err").unwrap());
        command.spawn().unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    async fn deposit(&self) -> Record {
        let movement =
            Movement { wait: Some(Duration::from_secs(20)), ..Movement::of(Decimal::ONE) };
        let key = IdempotencyKey::random();
        let record = self.api.deposit(self.account, &movement, &key).await.unwrap();
        self.api.settled(record, SOON).await.unwrap()
    }

    async fn records(&self) -> Vec<Record> {
        let page = self.api.records(self.account, &RecordFilter::default(), None).await;
        page.unwrap().items
    }

    /// Waits until the log has this many events of the merchant, and gives their ids.
    async fn logged(&self, count: usize) -> Vec<String> {
        eventually(&format!("the log has {count} events"), SOON, || async {
            let page = self.api.events(&EventFilter::default(), None).await.unwrap();
            let ids: Vec<_> = page.items.into_iter().map(|event| event.id).collect();
            (ids.len() == count).then_some(ids)
        })
        .await
    }
}

/// The lines of a file of JSON. The last line may be incomplete.
fn lines(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn ids(text: &str) -> Vec<String> {
    lines(text).iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_payment_whose_program_was_killed_is_deposited_once_under_the_key_of_its_journal() {
    let merchant = Merchant::new().await;
    let (account, payments) = (merchant.account, merchant.path("payments.csv"));
    let rows = format!("invoice-1,{account},10.50,USD\ninvoice-2,{account},0.20,USD\n");
    fs::write(&payments, format!("reference,account,amount,currency\n{rows}")).unwrap();
    let journal = merchant.path("journal");
    let arguments = ["pay", &payments, &journal];

    // Killed between the acceptance of the first payment and its settlement.
    let paused = Paused::new([merchant.stack.pid("transaction-service-0")]);
    let mut killed = merchant.start(&arguments, None);
    eventually("a deposit is accepted", SOON, || async {
        (merchant.records().await.len() == 1).then_some(())
    })
    .await;
    killed.kill().await.unwrap();
    drop(paused);
    let keys = |text: &str| {
        let begun = lines(text).into_iter().filter_map(|line| line.get("begun").cloned());
        begun.map(|begun| begun["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = keys(&merchant.read("journal"));
    assert_eq!(before, [merchant.records().await[0].idempotency_key.clone()]);
    // And while it wrote a line.
    let mut file = OpenOptions::new().append(true).open(&journal).unwrap();
    file.write_all(b"{\"begun\":{\"payment\":{\"reference\":\"\xc3").unwrap();

    for _ in 0..2 {
        let status = merchant.start(&arguments, None).wait().await.unwrap();
        assert!(status.success(), "{}", merchant.read("err"));
    }
    let records = merchant.records().await;
    let all = keys(&merchant.read("journal"));
    assert_eq!(all[0], before[0]);
    let found: Vec<_> = records.iter().rev().map(|record| &record.idempotency_key).collect();
    assert_eq!(found, all.iter().collect::<Vec<_>>());
    assert!(records.iter().all(|record| record.status == Status::Success));
    let balance = merchant.api.account(account).await.unwrap().balance;
    assert_eq!(balance.to_string(), "10.70");
    assert_eq!(merchant.read("out"), "invoice-1 Success\ninvoice-2 Success\n".repeat(2));

    // The reference of a payment names one payment.
    fs::write(
        &payments,
        format!("reference,account,amount,currency\n{}", rows.replace("0.20", "9")),
    )
    .unwrap();
    let status = merchant.start(&arguments, None).wait().await.unwrap();
    assert!(!status.success() && merchant.read("err").contains("invoice-2 has changed"));
    assert_eq!(merchant.records().await.len(), 2);
}

#[tokio::test]
async fn events_are_followed_through_a_lost_connection_and_from_the_stored_cursor() {
    let merchant = Merchant::new().await;
    merchant.deposit().await;
    let (cursor, arguments) = (merchant.path("cursor"), |cursor| ["follow", cursor]);
    let mut follower = merchant.start(&arguments(&cursor), None);
    let followed = async |count| {
        let logged = merchant.logged(count).await;
        let last = logged.last().unwrap().clone();
        wait::eventually_now("the last event is handled", SOON, || {
            (merchant.read("cursor") == last).then_some(())
        })
        .await;
        assert_eq!(ids(&merchant.read("out")), logged, "{}", merchant.read("err"));
    };
    followed(2).await;
    // The connection is lost, and the API away for a moment.
    let pid = merchant.stack.pid("account-service-0");
    signal(pid, Signal::SIGKILL);
    merchant.stack.restarted("account-service-0", pid, SOON).await;
    merchant.deposit().await;
    followed(3).await;
    assert_eq!(follower.try_wait().unwrap(), None, "{}", merchant.read("err"));
    // The program dies.
    follower.kill().await.unwrap();
    merchant.deposit().await;
    let _follower = merchant.start(&arguments(&cursor), None);
    followed(4).await;
}

/// Sends a delivery of the content of an event, signed with this secret, and gives the status.
async fn deliver(url: &str, secret: &str, body: &str) -> u16 {
    let event: Value = serde_json::from_str(body).unwrap();
    let id = event["id"].as_str().unwrap();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signature = hmac::sign(&key, format!("{id}.{now}.{body}").as_bytes());
    let request = reqwest::Client::new().post(url).body(body.to_owned());
    let request = request.header("webhook-id", id).header("webhook-timestamp", now);
    let signature = format!("v1,{}", STANDARD.encode(signature));
    request.header("webhook-signature", signature).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn webhooks_are_verified_and_kept_once_and_forged_ones_are_refused() {
    let merchant = Merchant::new().await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (address, inbox) = (format!("127.0.0.1:{port}"), merchant.path("inbox"));
    let url = format!("http://{address}/");
    let endpoint = CreateWebhookEndpoint { url: url.clone(), ..Default::default() };
    let created = merchant.api.create_webhook_endpoint(&endpoint, &IdempotencyKey::random()).await;
    let secret = created.unwrap().secret.unwrap();
    // During a rotation, the program knows two secrets.
    let keys = format!("{OTHER_SECRET} {secret}");
    let mut receiver = merchant.start(&["receive", &address, &inbox], Some(&keys));
    let record = merchant.deposit().await;
    let kept = wait::eventually_now("the event of the deposit arrives", SOON, || {
        let mut lines = lines(&merchant.read("inbox")).into_iter();
        lines.find(|event| event["type"] == "record.succeeded")
    })
    .await;
    assert_eq!(kept["data"]["recordId"], record.record_id.to_string());
    let before = merchant.read("inbox");

    // A delivery that is repeated, also after a restart of the program, is taken and not kept again.
    let kept = kept.to_string();
    assert_eq!(deliver(&url, &secret, &kept).await, 204);
    receiver.kill().await.unwrap();
    let _receiver = merchant.start(&["receive", &address, &inbox], Some(&secret));
    wait_for(&address).await;
    assert_eq!(deliver(&url, &secret, &kept).await, 204);
    // The other secret is no longer valid, and its owner can't make an event.
    let forged = kept.replace(&record.record_id.to_string(), &new_key());
    assert_eq!(deliver(&url, OTHER_SECRET, &forged).await, 400);
    assert_eq!(merchant.read("inbox"), before);
    assert!(merchant.read("err").contains("refused: no signature is by a known key"));
}

async fn wait_for(address: &str) {
    eventually("the program listens", SOON, || async {
        tokio::net::TcpStream::connect(address).await.ok()
    })
    .await;
}
