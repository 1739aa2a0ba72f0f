//! Floods of requests without a valid token from one address. They shut out neither other
//! addresses nor known callers, and hide nobody's refusals in the log.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    time::Instant,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::{AccountId, Scopes};
use futures::{StreamExt, stream};
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use tests::{Client, Response, Stack, client::new_key, metrics::Scrape};

use crate::reports::statement;

const REPLICA: &str = "account-service-0";
/// A flood goes on until so many of its requests were refused unseen, at most for so many.
const LIMITED: u64 = 250;
const FLOOD: u32 = 10_000;
const AT_ONCE: usize = 16;
/// Each replica looks at 50 tokens at once and at ten a second.
const ADMITTED: u64 = 50;
const ADMITTED_PER_SECOND: u64 = 10;
const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Sends requests from the attacker's address. The statuses of forged tokens.
struct Attacker {
    http: reqwest::Client,
    url: String,
}

impl Attacker {
    fn new(base: &str) -> Self {
        let http = reqwest::Client::builder().local_address(ATTACKER).build().unwrap();
        Self { http, url: format!("{base}/v1/accounts") }
    }

    /// A request with this token. The address that the header names is invented.
    async fn request(&self, token: &str, invented: u32) -> reqwest::Response {
        let invented = Ipv4Addr::from_bits(invented).to_string();
        let request = self.http.get(&self.url).header("x-forwarded-for", invented);
        request.header(AUTHORIZATION, format!("Bearer {token}")).send().await.unwrap()
    }

    /// Sends forged tokens until enough are refused without a look at them. Gives how many were
    /// looked at.
    async fn flood(&self, valid: &str) -> u64 {
        let (signed, _) = valid.rsplit_once('.').unwrap();
        let forged = &format!("{signed}.{}", "A".repeat(86));
        let sent = stream::iter(0..FLOOD).map(async |number| {
            let response = self.request(forged, number).await;
            let retry_after = response.headers().get("retry-after").cloned();
            match response.status().as_u16() {
                401 => false,
                429 => {
                    assert_eq!(retry_after.expect("429 says when"), "1");
                    let text = response.text().await.unwrap();
                    assert!(text.contains("/problems/too-many-requests"), "{text}");
                    assert!(text.contains("This address"), "{text}");
                    true
                }
                other => panic!("{other}"),
            }
        });
        let mut sent = pin!(sent.buffer_unordered(AT_ONCE));
        let (mut limited, mut admitted) = (0, 0);
        while limited < LIMITED {
            let is_limited = sent.next().await.expect("enough are refused unseen");
            if is_limited {
                limited += 1;
            } else {
                admitted += 1;
            }
        }
        admitted
    }
}

/// The lines about refused requests in the logs of a service.
fn lines(stack: &Stack, service: &str) -> Vec<String> {
    let logs = fs::read_dir(stack.dir.join("logs")).unwrap().map(|log| log.unwrap().path());
    let logs = logs.filter(|log| log.file_stem().unwrap().to_str().unwrap().starts_with(service));
    let texts: Vec<_> = logs.map(|log| fs::read_to_string(log).unwrap()).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.filter(|line| line.contains("a request was refused")).map(ToOwned::to_owned).collect()
}

/// Asserts that the log has the caller of a request for another owner's resource.
pub(crate) fn assert_hidden(stack: &Stack, service: &str, client: &Client, response: &Response) {
    let id = response.header("request-id").unwrap();
    let lines = lines(stack, service);
    let line = lines.iter().find(|line| line.contains(id)).expect("a line of the hidden resource");
    let claims = client.token().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let caller = claims["sub"].as_str().unwrap();
    assert!(line.contains(r#""kind":"hidden""#) && line.contains(caller), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_tokens_from_one_address_shut_out_neither_others_nor_known_callers() {
    let stack = Stack::shared().await;
    let before = Scrape::of(stack, REPLICA).await;
    let known = Client::customer(stack, &new_key());
    let through_proxy = stack.file().api;
    let direct = stack.file().processes.into_iter().find(|process| process.name == REPLICA);
    for (base, replicas) in [(direct.unwrap().http.unwrap(), 1), (through_proxy, 2)] {
        // Both replicas behind the proxy get to know the caller.
        for _ in 0..6 {
            assert_eq!(Client::new(&base, known.token()).get("/v1/accounts").await.status, 200);
        }
        let attacker = Attacker::new(&base);
        let begun = Instant::now();
        let admitted = attacker.flood(known.token()).await;
        let seconds = begun.elapsed().as_secs() + 1;
        println!("{base}: {admitted} tokens were looked at in {seconds} s");
        let most = replicas * (ADMITTED + ADMITTED_PER_SECOND * seconds);
        assert!(admitted <= most, "{admitted} in {seconds} s");
        assert_eq!(attacker.request(known.token(), 0).await.status(), 200);
        let new = Client::customer(stack, &new_key());
        assert_eq!(Client::new(&base, new.token()).get("/v1/accounts").await.status, 200);
    }
    let name = new_key();
    let refused = Client::user(stack, &name, Scopes::default()).at(stack, REPLICA);
    assert_eq!(refused.get("/v1/accounts").await.status, 403);
    let lines = lines(stack, REPLICA);
    let line = lines.iter().find(|line| line.contains(&name)).expect("a line of the caller");
    assert!(line.contains(r#""kind":"forbidden""#), "{line}");
    let of_attacker: Vec<_> = lines.iter().filter(|line| line.contains("127.0.0.2")).collect();
    for kind in [r#""kind":"unauthenticated""#, r#""kind":"address""#] {
        assert!(of_attacker.iter().any(|line| line.contains(kind)), "{of_attacker:?}");
    }
    let tells_of_others = of_attacker.iter().any(|line| !line.contains(r#""unlogged":0"#));
    assert!(tells_of_others, "{of_attacker:?}");
    let now = Scrape::of(stack, REPLICA).await;
    for (kind, least) in [("address", 250.0), ("unauthenticated", 50.0), ("forbidden", 1.0)] {
        let count = |scrape: &Scrape| {
            scrape.sum("passbook_http_refusals_total", &[("kind", kind)]).unwrap_or_default()
        };
        assert!(count(&now) - count(&before) >= least, "{kind}");
    }
}

#[tokio::test]
async fn a_request_for_what_is_anothers_is_logged_with_its_caller() {
    let stack = Stack::shared().await;
    let [owner, other] = [(), ()].map(|()| Client::customer(stack, &new_key()));
    let account = owner.open_account("KRW").await;
    let record = Client::teller(stack).deposit(&account, "1").await.text("recordId").to_owned();
    let at_replica = other.at(stack, REPLICA);
    for path in [format!("/v1/accounts/{account}"), format!("/v1/records/{record}")] {
        let hidden = at_replica.get(&path).await;
        assert_eq!(hidden.status, 404, "{hidden:?}");
        assert_hidden(stack, REPLICA, &other, &hidden);
    }
    let item = json!({ "accountId": account, "type": "WITHDRAWAL", "amount": "1",
        "idempotencyKey": "1" });
    let batch = at_replica.post("/v1/batches", &[], &json!({ "items": [item] })).await;
    assert_hidden(stack, REPLICA, &other, &batch);
    let body = statement(&account, &["csv"]);
    assert_hidden(stack, "report-service", &other, &other.report(&body, 0).await);
    let report = owner.report(&body, 0).await;
    let path = format!("/v1/reports/{}", report.text("reportId"));
    assert_hidden(stack, "report-service", &other, &other.get(&path).await);
    // What does not exist belongs to nobody.
    let missing = at_replica.get(&format!("/v1/accounts/{}", AccountId::new())).await;
    let id = missing.header("request-id").unwrap();
    assert!(!lines(stack, REPLICA).iter().any(|line| line.contains(id)), "{missing:?}");
}
