//! `passbook secrets`: the Secrets that the manifests in `k8s/` name. Each is
//! drawn for itself and nothing is derived from two of them, so that one that is
//! there already stays as it is, whoever made it.

use std::{collections::BTreeMap, env, fs, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Args, Subcommand};
use contract::permissions;
use credentials::{SigningKey, random_password};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde::Serialize;
use tokio_util::bytes::Bytes;

use crate::output;

/// What a pod finds of its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long the API server may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long bearer tokens for trying things out are good.
const TOKENS_LAST: time::Duration = time::Duration::days(90);

/// The roles of PostgreSQL, each with the Secret that holds its password.
const ROLES: [(&str, &str); 7] = [
    ("account-database-owner", "account_owner"),
    ("account-database-service", "account_service"),
    ("transaction-database-owner", "transaction_owner"),
    ("transaction-database-service", "transaction_service"),
    ("report-database-owner", "report_owner"),
    ("report-database-service", "report_service"),
    ("database-auditor", "auditor"),
];
/// The same of the broker's users.
const USERS: [(&str, &str); 5] = [
    ("nats-operator", permissions::OPERATOR),
    ("nats-auditor", permissions::AUDITOR),
    ("nats-account-service", permissions::ACCOUNT_SERVICE),
    ("nats-transaction-service", permissions::TRANSACTION_SERVICE),
    ("nats-route", "route"),
];

/// Make the Secrets that the manifests for Kubernetes need.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print new ones as a List, for `kubectl create -f -`.
    ///
    /// kubectl leaves those alone that are there already, and says so.
    Print(Which),
    /// Create those that are missing, from inside the cluster.
    ///
    /// As the service account of the pod this runs in, which needs to create Secrets and nothing
    /// else. Those that are there stay as they are.
    Create(Which),
}

/// Whose Secrets.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Namespace that they belong to.
    #[arg(long, env = "PASSBOOK_NAMESPACE", default_value = "passbook")]
    namespace: String,
    /// Also what only a cluster for trying things out has: the password of PostgreSQL's superuser,
    /// and bearer tokens with the key that verifies them.
    #[arg(long)]
    dev: bool,
}

/// A Secret as Kubernetes has it, core/v1.
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
            Self::Print(which) => {
                let items = which.secrets()?;
                output::json(&List { api_version: "v1", kind: "List", items })?;
            }
            Self::Create(which) => create(&which.secrets()?).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Which {
    fn secrets(&self) -> Result<Vec<Secret>> {
        let mut secrets = Vec::new();
        for (name, user) in ROLES {
            secrets.push(self.login(name, user, random_password()?));
        }
        for (name, user) in USERS {
            // The broker reads it from its environment, where digits in front make a number.
            secrets.push(self.login(name, user, format!("p{}", random_password()?)));
        }
        if self.dev {
            secrets.push(self.login("postgres-superuser", "postgres", random_password()?));
            let key = SigningKey::generate()?;
            let token = |role| key.token(role, role, TOKENS_LAST);
            // One Secret: tokens and the key that verifies them go together.
            secrets.push(self.secret(
                "token-verifier",
                "Opaque",
                [
                    ("public-key", key.public_key_pem()),
                    ("teller", token("teller")),
                    ("admin", token("admin")),
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

/// Sends each to the API server of the cluster that this runs in.
async fn create(secrets: &[Secret]) -> Result<()> {
    let variable = |name| env::var(name).context("this does not run in a cluster: use `print`");
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let read = |name| {
        let path = format!("{ACCOUNT}/{name}");
        fs::read_to_string(&path).with_context(|| format!("{path}: the pod's service account"))
    };
    let bearer = format!("Bearer {}", read("token")?.trim());
    let client = client(&read("ca.crt")?)?;
    for secret in secrets {
        let Metadata { name, namespace, .. } = &secret.metadata;
        let url = format!("https://{host}:{port}/api/v1/namespaces/{namespace}/secrets");
        let request = Request::post(url)
            .header(header::AUTHORIZATION, &bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(serde_json::to_vec(secret)?))?;
        let exchange = async {
            let answer = client.request(request).await?;
            let status = answer.status();
            Ok::<_, anyhow::Error>((status, answer.into_body().collect().await?.to_bytes()))
        };
        let (status, answer) = tokio::time::timeout(ANSWER, exchange)
            .await
            .unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER:?}")))
            .context("the API server")?;
        // What the API server answers to a refused one does not repeat it.
        let refused = || format!("secret/{name}: {status}: {}", String::from_utf8_lossy(&answer));
        ensure!(status.is_success() || status == StatusCode::CONFLICT, refused());
        let became = if status.is_success() { "created" } else { "is there" };
        output::line(&format!("secret/{name} {became}"))?;
    }
    Ok(())
}

/// A client that trusts this authority and no other.
fn client(authority: &str) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(certificate.context("the cluster's authority")?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_secret_has_a_name_and_a_password_of_its_own() {
        let which = Which { namespace: "passbook".to_owned(), dev: true };
        let secrets = which.secrets().unwrap();
        let names: std::collections::BTreeSet<_> =
            secrets.iter().map(|secret| secret.metadata.name).collect();
        let passwords: std::collections::BTreeSet<_> =
            secrets.iter().filter_map(|secret| secret.string_data.get("password")).collect();
        assert_eq!((names.len(), passwords.len()), (secrets.len(), secrets.len() - 1));
    }

    #[test]
    fn the_brokers_passwords_are_read_as_text() {
        let which = Which { namespace: "passbook".to_owned(), dev: false };
        for secret in which.secrets().unwrap() {
            let password = secret.string_data.get("password").unwrap();
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
