//! Endpoints, to which events are delivered.

use std::fmt;

use contract::WebhookEndpointId;
use http::Method;
use serde::{Deserialize, Serialize};

use crate::{Client, Error, IdempotencyKey, Request, client::mark};

/// How deliveries are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signature {
    /// HMAC-SHA256 with the secret.
    #[serde(rename = "v1")]
    Hmac,
    /// Ed25519. The receiver needs the public key only.
    #[serde(rename = "v1a")]
    Ed25519,
}

/// The endpoint to create.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateWebhookEndpoint {
    /// Where events are posted: `https`, with a public host.
    pub url: String,
    /// What the endpoint is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The types of events to deliver. By default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// How to sign. By default HMAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Deliver the events of all accounts. Needs the scope `accounts:any`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all_accounts: bool,
}

/// An endpoint. `Debug` does not show its secret.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookEndpoint {
    /// Its id.
    pub webhook_endpoint_id: WebhookEndpointId,
    /// Where events are posted.
    pub url: String,
    /// `ENABLED` or `DISABLED`.
    pub state: String,
    /// How deliveries are signed.
    pub signature: Signature,
    /// The secret of a new endpoint or of a rotation, for [`crate::webhook::Verifier`]. No other
    /// answer has it, and no replay: if it was lost, rotate it.
    pub secret: Option<String>,
    /// The public key of an endpoint that signs with Ed25519.
    pub public_key: Option<String>,
}

impl fmt::Debug for WebhookEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { webhook_endpoint_id, url, state, signature, .. } = self;
        write!(f, "WebhookEndpoint({webhook_endpoint_id}, {url}, {state}, {signature:?})")
    }
}

impl Client {
    /// Creates an endpoint. The same request with the same key gives the same endpoint, without its
    /// secret.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn create_webhook_endpoint(
        &self,
        endpoint: &CreateWebhookEndpoint,
        key: &IdempotencyKey,
    ) -> Result<WebhookEndpoint, Error> {
        self.call(&Request::post("/v1/webhook-endpoints", endpoint)?.key(key)).await
    }

    /// The endpoint with this id.
    ///
    /// # Errors
    /// Of the last try.
    pub async fn webhook_endpoint(&self, id: WebhookEndpointId) -> Result<WebhookEndpoint, Error> {
        self.call(&Request::get(format!("/v1/webhook-endpoints/{id}"))).await
    }

    /// Makes another secret. The one before stays valid for a day. The request is sent once: each
    /// makes a secret.
    ///
    /// # Errors
    /// Of the try.
    pub async fn rotate_webhook_secret(
        &self,
        id: WebhookEndpointId,
    ) -> Result<WebhookEndpoint, Error> {
        let path = format!("/v1/webhook-endpoints/{id}/rotate-secret");
        let request = Request::new(Method::POST, path);
        let answer = self.send(&request).await?.success();
        answer.and_then(|answer| answer.json()).map_err(|error| mark(&request, error))
    }

    /// Deletes the endpoint.
    ///
    /// # Errors
    /// Of the last try: `webhook-endpoint-not-found` also if an earlier try deleted it and its
    /// answer was lost.
    pub async fn delete_webhook_endpoint(&self, id: WebhookEndpointId) -> Result<(), Error> {
        let path = format!("/v1/webhook-endpoints/{id}");
        self.try_again(&Request::new(Method::DELETE, path), |_| Ok(())).await?;
        Ok(())
    }
}
