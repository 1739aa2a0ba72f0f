//! `passbook secrets`: generates the Secrets named by the manifests in `k8s/`.
//!
//! Each secret is drawn independently, so an existing one stays, whatever tool created it, and a
//! crash leaves nothing half done.

use std::{collections::BTreeMap, env, fs, process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use client::{Answer, Client, Request};
use contract::{Scopes, permissions};
use credentials::{SigningKey, random_key, random_password};
use http::StatusCode;
use serde::Serialize;

use crate::{output, provision};

/// Where a pod finds the credentials of its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Limit for a response of the API server.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Validity of the bearer tokens for a test cluster.
const TOKEN_VALIDITY: time::Duration = time::Duration::days(90);

/// Secrets with passwords of PostgreSQL's roles: the name of each Secret, and the role.
const ROLES: [(&str, &str); 10] = [
    ("account-database-owner", "account_owner"),
    ("account-database-service", "account_service"),
    ("transaction-database-owner", "transaction_owner"),
    ("transaction-database-service", "transaction_service"),
    ("report-database-owner", "report_owner"),
    ("report-database-service", "report_service"),
    ("webhook-database-service", provision::WEBHOOK_SERVICE),
    ("database-auditor", provision::AUDITOR),
    ("database-report-reader", provision::REPORT_READER),
    ("database-ledger-reader", provision::LEDGER_READER),
];
/// Secrets with passwords of the broker's users: the name of each Secret, and the user.
const USERS: [(&str, &str); 6] = [
    ("nats-operator", permissions::OPERATOR),
    ("nats-auditor", permissions::AUDITOR),
    ("nats-account-service", permissions::ACCOUNT_SERVICE),
    ("nats-transaction-service", permissions::TRANSACTION_SERVICE),
    ("nats-report-service", permissions::REPORT_SERVICE),
    ("nats-route", "route"),
];

/// The type of a Secret with keys of its own.
const OPAQUE: &str = "Opaque";

/// Generate the Secrets for the Kubernetes manifests.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print new Secrets as a List, for `kubectl create -f -`.
    ///
    /// kubectl leaves existing Secrets unchanged and reports them.
    Print(SecretsArguments),
    /// Create the missing Secrets, from inside the cluster.
    ///
    /// Uses the service account of its pod. The service account needs the permission to create
    /// Secrets, and no other. Existing Secrets stay as they are.
    Create(SecretsArguments),
}

/// The Secrets to generate.
#[derive(Debug, Args)]
pub(crate) struct SecretsArguments {
    /// Namespace of the Secrets.
    #[arg(long, env = "PASSBOOK_NAMESPACE", default_value = "passbook")]
    namespace: String,
    /// Also generate the Secrets of a test cluster: the password of PostgreSQL's superuser, and
    /// bearer tokens with the key set that verifies them.
    #[arg(long)]
    dev: bool,
}

/// A Secret in the form of the Kubernetes API, core/v1.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    r#type: &'static str,
    string_data: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
struct Metadata {
    name: &'static str,
    namespace: String,
    labels: BTreeMap<&'static str, &'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Secret>,
}

impl Command {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Print(arguments) => {
                let items = arguments.secrets()?;
                output::json(&List { api_version: "v1", kind: "List", items })?;
            }
            Self::Create(arguments) => create(&arguments.secrets()?).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl SecretsArguments {
    fn secrets(&self) -> Result<Vec<Secret>> {
        let mut secrets = Vec::new();
        for (name, user) in ROLES {
            secrets.push(self.login(name, user, random_password()?));
        }
        for (name, user) in USERS {
            // The broker reads the password from its environment and would take leading digits for
            // a number.
            secrets.push(self.login(name, user, format!("p{}", random_password()?)));
        }
        // Signs the files of reports. Unlike the key of tokens, no other system needs it.
        let private_key = SigningKey::generate()?.private_key_pem();
        secrets.push(self.secret("report-signing-key", OPAQUE, [("private-key", private_key)]));
        secrets.push(self.secret("webhook-secret-keys", OPAQUE, [("keys", random_key()?)]));
        secrets.push(self.secret("report-renderer", OPAQUE, [("token", random_password()?)]));
        if self.dev {
            secrets.push(self.login("postgres-superuser", "postgres", random_password()?));
            let key = SigningKey::generate()?;
            let token = |user, scopes| key.token(user, scopes, TOKEN_VALIDITY);
            // One Secret, because the key verifies these tokens only.
            secrets.push(self.secret(
                "token-verifier",
                OPAQUE,
                [
                    ("jwks.json", key.jwks()),
                    ("teller", token("teller", Scopes::teller())),
                    ("admin", token("admin", Scopes::all())),
                ],
            ));
        }
        Ok(secrets)
    }

    fn login(&self, name: &'static str, user: &str, password: String) -> Secret {
        let keys = [("username", user.to_owned()), ("password", password)];
        self.secret(name, "kubernetes.io/basic-auth", keys)
    }

    fn secret<const N: usize>(
        &self,
        name: &'static str,
        r#type: &'static str,
        keys: [(&'static str, String); N],
    ) -> Secret {
        let labels = BTreeMap::from([("app.kubernetes.io/part-of", "passbook")]);
        let metadata = Metadata { name, namespace: self.namespace.clone(), labels };
        let string_data = BTreeMap::from(keys);
        Secret { api_version: "v1", kind: "Secret", metadata, r#type, string_data }
    }
}

/// Creates each Secret through the API server of the surrounding cluster.
async fn create(secrets: &[Secret]) -> Result<()> {
    let variable =
        |name| env::var(name).context("this process does not run in a cluster: use `print`");
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let read = |name| {
        let path = format!("{SERVICE_ACCOUNT}/{name}");
        fs::read_to_string(&path)
            .with_context(|| format!("reading {path} of the pod's service account"))
    };
    let (token, authorities) = (read("token")?, read("ca.crt")?);
    let client = Client::builder(&format!("https://{host}:{port}"), token.trim())
        .certificate_authorities(authorities.as_bytes())
        .timeout(TIMEOUT)
        .build()?;
    for secret in secrets {
        let Metadata { name, namespace, .. } = &secret.metadata;
        let request = Request::post(format!("/api/v1/namespaces/{namespace}/secrets"), secret)?;
        let Answer { status, body, .. } = client.send(&request).await.context("the API server")?;
        // The API server's response to a rejected Secret does not repeat its content.
        let rejected = || format!("secret/{name}: {status}: {}", String::from_utf8_lossy(&body));
        ensure!(status.is_success() || status == StatusCode::CONFLICT, rejected());
        let result = if status.is_success() { "created" } else { "exists already" };
        output::line(&format!("secret/{name} {result}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_secret_has_a_name_and_values_of_its_own() {
        let arguments = SecretsArguments { namespace: "passbook".to_owned(), dev: true };
        let secrets = arguments.secrets().unwrap();
        let names: std::collections::BTreeSet<_> =
            secrets.iter().map(|secret| secret.metadata.name).collect();
        let values = |secret: &Secret| {
            let values = secret.string_data.iter().filter(|(key, _)| **key != "username");
            values.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let all: Vec<_> = secrets.iter().flat_map(values).collect();
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!((names.len(), different.len()), (secrets.len(), all.len()));
    }

    #[test]
    fn the_brokers_passwords_are_read_as_text() {
        let arguments = SecretsArguments { namespace: "passbook".to_owned(), dev: false };
        for secret in arguments.secrets().unwrap() {
            let Some(password) = secret.string_data.get("password") else { continue };
            let begins = password.starts_with('p');
            assert_eq!(
                begins,
                secret.metadata.name.starts_with("nats-"),
                "{}",
                secret.metadata.name
            );
        }
    }
}
