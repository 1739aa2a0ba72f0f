//! The tests' layer over the client of the API: any request, without retries, each response
//! compared with the document.

use std::{fmt, time::Duration};

use client::{Answer, Error, Request, Retry};
use contract::{Scope, Scopes};
use devstack::Secrets;
use http_body_util::BodyExt;
use reqwest::{
    Method, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{EventStream, Stack, documented::assert_documented, eventually};

/// Sends requests to one address with one token.
#[derive(Debug, Clone)]
pub struct Client {
    /// The client as users have it, without retries.
    pub api: client::Client,
    base: String,
    token: String,
}

/// A response; its body is `null` unless it is JSON.
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    /// The body as it was sent.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, self.body)
    }
}

impl Response {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The text of a field of the body; empty if the field is absent or no string.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }

    /// An account as lists have it: without the amounts of PENDING records.
    #[must_use]
    pub fn as_listed(&self) -> Value {
        let mut account = self.body.clone();
        let fields = account.as_object_mut().unwrap();
        for field in ["pendingIn", "pendingOut", "available"] {
            fields.remove(field).unwrap();
        }
        account
    }

    /// The last part of a problem's `type`; empty if the body is no problem.
    #[must_use]
    pub fn problem(&self) -> &str {
        self.text("type").strip_prefix("/problems/").unwrap_or_default()
    }
}

impl Client {
    #[must_use]
    pub fn new(base: &str, token: &str) -> Self {
        // Longer than any `Prefer: wait` in these tests.
        Self::with_timeout(base, token, Duration::from_secs(60))
    }

    #[must_use]
    pub fn with_timeout(base: &str, token: &str, timeout: Duration) -> Self {
        let builder = client::Client::builder(base, token).timeout(timeout).retry(Retry::NEVER);
        let api = builder.longest_answer(usize::MAX).build().unwrap();
        Self { api, base: base.to_owned(), token: token.to_owned() }
    }

    /// A teller at the proxy in front of all replicas.
    #[must_use]
    pub fn teller(stack: &Stack) -> Self {
        let file = stack.file();
        Self::new(&file.api, &file.tokens.teller)
    }

    /// An administrator at the proxy: manages API keys.
    #[must_use]
    pub fn admin(stack: &Stack) -> Self {
        let file = stack.file();
        Self::new(&file.api, &file.tokens.admin)
    }

    /// A customer with this name, at the proxy.
    #[must_use]
    pub fn customer(stack: &Stack, name: &str) -> Self {
        Self::user(stack, name, Scopes::customer())
    }

    /// A customer who may also make deposits, as the system of a merchant.
    #[must_use]
    pub fn merchant(stack: &Stack, name: &str) -> Self {
        let scopes = Scope::ALL.into_iter().filter(|scope| *scope != Scope::AccountsAny);
        Self::user(stack, name, scopes.collect())
    }

    /// A user with this name and these scopes, at the proxy.
    #[must_use]
    pub fn user(stack: &Stack, name: &str, scopes: Scopes) -> Self {
        let secrets = Secrets::read(&stack.dir).unwrap();
        let token = secrets.token(name, scopes, time::Duration::hours(1)).unwrap();
        Self::new(&stack.file().api, &token)
    }

    /// A teller at one replica, without the proxy.
    #[must_use]
    pub fn teller_at(stack: &Stack, replica: &str) -> Self {
        let file = stack.file();
        let process = file.processes.iter().find(|process| process.name == replica);
        let http = process.and_then(|process| process.http.as_deref());
        Self::new(http.unwrap(), &file.tokens.teller)
    }

    /// The client's token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// This caller at one replica, without the proxy.
    #[must_use]
    pub fn at(&self, stack: &Stack, replica: &str) -> Self {
        Self::new(&Self::teller_at(stack, replica).base, &self.token)
    }

    /// Sends any request, by default with the client's token. `body` must match the
    /// `content-type` in `headers`. Panics if the response is not documented.
    ///
    /// # Errors
    /// No response arrived.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Response, Error> {
        let request = self.request(method.clone(), path, headers, body);
        Ok(self.response(&method, path, self.api.send(&request).await?))
    }

    /// A request as it is, but for the path: it is encoded as browsers do it.
    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Request {
        let url: Url = format!("{}{path}", self.base).parse().unwrap();
        let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
        let mut request = Request::new(method, format!("{}{query}", url.path()));
        for (name, value) in headers {
            let (name, value): (HeaderName, HeaderValue) =
                (name.parse().unwrap(), value.parse().unwrap());
            request.headers.append(name, value);
        }
        request.body = body.unwrap_or_default().into();
        request
    }

    fn response(&self, method: &Method, path: &str, answer: Answer) -> Response {
        let bytes = answer.body.to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let (status, headers) = (answer.status.as_u16(), answer.headers);
        let response = Response { status, headers, body, bytes };
        assert_documented(method, path, &response);
        response
    }

    /// Opens a stream of events after the event with this id.
    ///
    /// # Errors
    /// The response, if it is no stream; `None` without a response.
    pub async fn follow(
        &self,
        query: &str,
        last: Option<&str>,
    ) -> Result<EventStream, Option<Response>> {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(last.map(|last| ("last-event-id", last)));
        self.stream(&format!("/v1/events?{query}"), &headers).await
    }

    /// Opens the stream of a report's progress.
    ///
    /// # Errors
    /// As [`Client::follow`].
    pub async fn follow_report(&self, id: &str) -> Result<EventStream, Option<Response>> {
        self.stream(&format!("/v1/reports/{id}/events"), &[]).await
    }

    async fn stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<EventStream, Option<Response>> {
        let request = self.request(Method::GET, path, headers, None);
        let (head, body) = self.api.open(&request).await.map_err(|_| None)?.into_parts();
        if head.status == 200 {
            assert_eq!(head.headers["content-type"], "text/event-stream");
            return Ok(EventStream::new(body));
        }
        let body = body.collect().await.map_err(|_| None)?.to_bytes();
        let answer = Answer { status: head.status, headers: head.headers, body };
        Err(Some(self.response(&Method::GET, path, answer)))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send(Method::GET, path, &[], None).await.unwrap()
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        let json = [&[("content-type", "application/json")], headers].concat();
        self.send(Method::POST, path, &json, Some(body.to_string().into())).await.unwrap()
    }

    /// Opens an account and gives its id.
    pub async fn open_account(&self, currency: &str) -> String {
        let response = self.post("/v1/accounts", &[], &json!({ "currency": currency })).await;
        assert_eq!(response.status, 201, "{response:?}");
        response.text("accountId").to_owned()
    }

    /// Deposits with a new key and waits up to 20 s for the settled record.
    pub async fn deposit(&self, account: &str, amount: &str) -> Response {
        self.movement("deposits", account, amount, &new_key(), Some(20)).await
    }

    /// As [`Client::deposit`], for a withdrawal.
    pub async fn withdraw(&self, account: &str, amount: &str) -> Response {
        self.movement("withdrawals", account, amount, &new_key(), Some(20)).await
    }

    /// Requests a movement. `resource` is `deposits` or `withdrawals`, `wait` the seconds of
    /// `Prefer: wait`.
    pub async fn movement(
        &self,
        resource: &str,
        account: &str,
        amount: &str,
        key: &str,
        wait: Option<u32>,
    ) -> Response {
        self.try_movement(resource, account, amount, key, wait).await.unwrap()
    }

    /// As [`Client::movement`], while the system may be down.
    ///
    /// # Errors
    /// No response arrived.
    pub async fn try_movement(
        &self,
        resource: &str,
        account: &str,
        amount: &str,
        key: &str,
        wait: Option<u32>,
    ) -> Result<Response, Error> {
        let path = format!("/v1/accounts/{account}/{resource}");
        let wait = wait.map(|seconds| format!("wait={seconds}"));
        let mut headers = vec![("content-type", "application/json"), ("idempotency-key", key)];
        headers.extend(wait.as_deref().map(|wait| ("prefer", wait)));
        let body = json!({ "amount": amount }).to_string();
        self.send(Method::POST, &path, &headers, Some(body.into())).await
    }

    /// Asks for a report with a new key, and waits up to `wait` seconds for its end.
    pub async fn report(&self, body: &Value, wait: u32) -> Response {
        let (key, wait) = (new_key(), format!("wait={wait}"));
        let headers = [("idempotency-key", key.as_str()), ("prefer", wait.as_str())];
        self.post("/v1/reports", &headers, body).await
    }

    /// Waits up to `within` until the report has ended, and gives it.
    pub async fn report_ended(&self, id: &str, within: Duration) -> Response {
        let path = format!("/v1/reports/{id}");
        eventually(&format!("report {id} has ended"), within, || async {
            let wait = [("prefer", "wait=5")];
            let response = self.send(Method::GET, &path, &wait, None).await.ok()?;
            let open = ["QUEUED", "RUNNING"].contains(&response.text("state"));
            (response.status == 200 && !open).then_some(response)
        })
        .await
    }

    pub async fn account(&self, id: &str) -> Response {
        self.get(&format!("/v1/accounts/{id}")).await
    }

    pub async fn record(&self, id: &str) -> Response {
        self.get(&format!("/v1/records/{id}")).await
    }

    /// Waits up to 30 s until the record is settled, and gives it.
    pub async fn settled(&self, id: &str) -> Response {
        let path = format!("/v1/records/{id}");
        let wait = [("prefer", "wait=30")];
        let response = self.send(Method::GET, &path, &wait, None).await.unwrap();
        assert_ne!(response.text("status"), "PENDING", "{response:?}");
        response
    }
}

/// A new idempotency key, or any other new id: a UUIDv7.
#[must_use]
pub fn new_key() -> String {
    Uuid::now_v7().to_string()
}
