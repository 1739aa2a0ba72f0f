//! The actions in this database's audit log. The webhook-service writes those of webhooks.

/// What is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditAction {
    /// A caller opened an account for another owner.
    AccountCreated,
    ApiKeyCreated,
    ApiKeyRevoked,
    WebhookEndpointCreated,
    WebhookEndpointChanged,
    WebhookSecretRotated,
    /// A caller asked for events to be delivered again.
    WebhookRedeliveryRequested,
    WebhookEndpointDeleted,
    /// The webhook-service disabled an endpoint.
    WebhookEndpointDisabled,
}

impl AuditAction {
    pub const ALL: [Self; 9] = [
        Self::AccountCreated,
        Self::ApiKeyCreated,
        Self::ApiKeyRevoked,
        Self::WebhookEndpointCreated,
        Self::WebhookEndpointChanged,
        Self::WebhookSecretRotated,
        Self::WebhookRedeliveryRequested,
        Self::WebhookEndpointDeleted,
        Self::WebhookEndpointDisabled,
    ];

    /// Its name in the API and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountCreated => "account.created",
            Self::ApiKeyCreated => "api-key.created",
            Self::ApiKeyRevoked => "api-key.revoked",
            Self::WebhookEndpointCreated => "webhook-endpoint.created",
            Self::WebhookEndpointChanged => "webhook-endpoint.changed",
            Self::WebhookSecretRotated => "webhook-endpoint.secret-rotated",
            Self::WebhookRedeliveryRequested => "webhook-endpoint.redelivery-requested",
            Self::WebhookEndpointDeleted => "webhook-endpoint.deleted",
            Self::WebhookEndpointDisabled => "webhook-endpoint.disabled",
        }
    }
}
