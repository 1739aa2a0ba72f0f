//! A client of the HTTP API, as a user of it would write one.

use std::time::Duration;

use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Stack;

/// Talks to one address with one token.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// A field's text; empty if it is none.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }

    /// The last part of a problem's `type`.
    #[must_use]
    pub fn problem(&self) -> &str {
        self.text("type").strip_prefix("/problems/").unwrap_or_default()
    }
}

impl Client {
    #[must_use]
    pub fn new(base: &str, token: &str) -> Self {
        // Longer than any wait that a test asks for.
        Self::with_timeout(base, token, Duration::from_secs(60))
    }

    /// As [`Client::new`], for who gives up earlier.
    #[must_use]
    pub fn with_timeout(base: &str, token: &str, timeout: Duration) -> Self {
        let http = reqwest::Client::builder().timeout(timeout).build().unwrap();
        Self { http, base: base.to_owned(), token: token.to_owned() }
    }

    /// A teller at the front address.
    #[must_use]
    pub fn teller(stack: &Stack) -> Self {
        let file = stack.file();
        Self::new(&file.api, &file.tokens.teller)
    }

    /// A teller at one replica, past the front.
    #[must_use]
    pub fn teller_at(stack: &Stack, replica: &str) -> Self {
        let file = stack.file();
        let process = file.processes.iter().find(|process| process.name == replica);
        Self::new(process.and_then(|it| it.http.as_deref()).unwrap(), &file.tokens.teller)
    }

    /// Any request; `None` body sends none.
    ///
    /// # Errors
    /// If no answer came.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.bearer_auth(&self.token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Answer { status, headers, body })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await.unwrap()
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let json = [&[("content-type", "application/json")], headers].concat();
        self.send(Method::POST, path, &json, Some(body.to_string().into())).await.unwrap()
    }

    /// Opens an account and gives its id.
    pub async fn open_account(&self, currency: &str) -> String {
        let answer = self.post("/v1/accounts", &[], &json!({ "currency": currency })).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.text("accountId").to_owned()
    }

    /// Moves money under a key of its own and waits for the settled record.
    pub async fn deposit(&self, account: &str, amount: &str) -> Answer {
        self.movement("deposits", account, amount, &new_key(), Some(20)).await
    }

    /// As [`Client::deposit`].
    pub async fn withdraw(&self, account: &str, amount: &str) -> Answer {
        self.movement("withdrawals", account, amount, &new_key(), Some(20)).await
    }

    /// A deposit or a withdrawal; waits so many seconds for it to settle.
    pub async fn movement(
        &self,
        resource: &str,
        account: &str,
        amount: &str,
        key: &str,
        wait: Option<u32>,
    ) -> Answer {
        self.try_movement(resource, account, amount, key, wait).await.unwrap()
    }

    /// As [`Client::movement`], while the system may be away.
    ///
    /// # Errors
    /// If no answer came.
    pub async fn try_movement(
        &self,
        resource: &str,
        account: &str,
        amount: &str,
        key: &str,
        wait: Option<u32>,
    ) -> Result<Answer, reqwest::Error> {
        let path = format!("/v1/accounts/{account}/{resource}");
        let wait = wait.map(|seconds| format!("wait={seconds}"));
        let mut headers = vec![("content-type", "application/json"), ("idempotency-key", key)];
        headers.extend(wait.as_deref().map(|wait| ("prefer", wait)));
        let body = json!({ "amount": amount }).to_string();
        self.send(Method::POST, &path, &headers, Some(body.into())).await
    }

    pub async fn account(&self, id: &str) -> Answer {
        self.get(&format!("/v1/accounts/{id}")).await
    }

    pub async fn record(&self, id: &str) -> Answer {
        self.get(&format!("/v1/records/{id}")).await
    }

    /// The record, once it is settled.
    pub async fn settled(&self, id: &str) -> Answer {
        let path = format!("/v1/records/{id}");
        let wait = [("prefer", "wait=30")];
        let answer = self.send(Method::GET, &path, &wait, None).await.unwrap();
        assert_ne!(answer.text("status"), "PENDING", "{answer:?}");
        answer
    }
}

/// A key that nobody used.
#[must_use]
pub fn new_key() -> String {
    Uuid::now_v7().to_string()
}
