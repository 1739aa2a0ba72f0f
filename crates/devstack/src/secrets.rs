//! The secrets of one stack. Created at its first start and kept in
//! `secrets.json`, because the data of later runs depends on them.

use std::{collections::BTreeMap, fs, io, path::Path};

use anyhow::{Context, Result};
use contract::{Scopes, permissions};
use credentials::{SigningKey, random_key, random_password};
use serde::{Deserialize, Serialize};
use time::Duration;

use crate::{
    database::{LEDGER_READER, REPORT_READER, SERVICE_ROLES},
    private_file,
    service::SERVICES,
};

const NAME: &str = "secrets.json";
/// The file with the public keys of the stack's own issuer of tokens.
pub(crate) const JWKS: &str = "jwks.json";
/// The superuser of PostgreSQL.
pub(crate) const SUPERUSER: &str = "passbook";
/// The role that may read every database.
const AUDITOR: &str = "auditor";

/// Passwords, the key that signs bearer tokens, and the one that signs reports.
#[derive(Serialize, Deserialize)]
pub struct Secrets {
    /// Passwords of PostgreSQL's roles.
    pub postgres: Passwords,
    /// Passwords of the broker's users.
    pub nats: Passwords,
    /// The Ed25519 key pair, PKCS#8 in base64.
    signing_key: String,
    /// Signs the files of reports; in the same form. Empty in the file of an
    /// earlier release.
    #[serde(default)]
    report_signing_key: String,
    /// Encrypts the secrets of webhook endpoints: 32 bytes in base64. Empty in
    /// the file of an earlier release.
    #[serde(default)]
    webhook_secret_key: String,
}

/// A password for each role or user.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Passwords(BTreeMap<String, String>);

impl Passwords {
    /// The password of a role or user.
    ///
    /// # Errors
    /// If there is none. A stack that starts creates missing passwords.
    pub fn of(&self, user: &str) -> Result<&str> {
        let password = self.0.get(&key(user)).filter(|password| !password.is_empty());
        password.map(String::as_str).with_context(|| format!("{NAME} has no password of {user}"))
    }

    /// Creates the missing passwords of these users.
    fn complete<'a>(&mut self, users: impl IntoIterator<Item = &'a str>) -> Result<()> {
        for user in users {
            let password = self.0.entry(key(user)).or_default();
            if password.is_empty() {
                *password = random_password()?;
            }
        }
        Ok(())
    }
}

/// The field of `secrets.json`: `account_service` for the user
/// `account-service`.
fn key(user: &str) -> String {
    user.replace('-', "_")
}

impl Secrets {
    /// Reads the secrets of the stack in `dir`.
    ///
    /// # Errors
    /// If no stack was ever started there, or the file can't be read.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        fs::read(&path)
            .map_err(anyhow::Error::from)
            .and_then(|bytes| Self::parse(&bytes))
            .with_context(|| path.display().to_string())
    }

    /// As [`Secrets::read`], and creates the missing ones.
    pub(crate) fn read_or_create(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let mut secrets = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self {
                postgres: Passwords::default(),
                nats: Passwords::default(),
                signing_key: SigningKey::generate()?.to_base64(),
                report_signing_key: String::new(),
                webhook_secret_key: String::new(),
            },
            _ => {
                let secrets = Self::read(dir)?;
                // The data exists under this password: a new one would not open it.
                secrets.superuser_password()?;
                secrets
            }
        };
        secrets.complete()?;
        private_file::write(&path, &serde_json::to_vec_pretty(&secrets)?)?;
        private_file::write(&dir.join(JWKS), secrets.signing_key()?.jwks().as_bytes())?;
        Ok(secrets)
    }

    fn parse(json: &[u8]) -> Result<Self> {
        let mut secrets: Self = serde_json::from_slice(json)?;
        // Earlier releases named the operator `passbook`.
        if let Some(password) = secrets.nats.0.remove("passbook") {
            secrets.nats.0.entry(key(permissions::OPERATOR)).or_insert(password);
        }
        Ok(secrets)
    }

    /// Creates the secrets missing from the file of an earlier release.
    fn complete(&mut self) -> Result<()> {
        let roles = SERVICE_ROLES.iter().map(|database| database.role);
        self.postgres.complete(roles.chain([SUPERUSER, AUDITOR, REPORT_READER, LEDGER_READER]))?;
        if self.report_signing_key.is_empty() {
            self.report_signing_key = SigningKey::generate()?.to_base64();
        }
        if self.webhook_secret_key.is_empty() {
            self.webhook_secret_key = random_key()?;
        }
        let users = SERVICES.iter().filter_map(|service| service.broker_user);
        self.nats.complete(users.chain([permissions::OPERATOR, permissions::AUDITOR]))
    }

    /// The password of PostgreSQL's superuser.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn superuser_password(&self) -> Result<&str> {
        self.postgres.of(SUPERUSER)
    }

    /// The password of PostgreSQL's auditor.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn auditor_password(&self) -> Result<&str> {
        self.postgres.of(AUDITOR)
    }

    /// The key pair that signs bearer tokens.
    ///
    /// # Errors
    /// If the key is not valid.
    pub fn signing_key(&self) -> Result<SigningKey> {
        SigningKey::from_base64(&self.signing_key)
    }

    /// The key pair that signs the files of reports.
    pub(crate) fn report_signing_key(&self) -> Result<SigningKey> {
        SigningKey::from_base64(&self.report_signing_key)
    }

    /// The key that encrypts the secrets of webhook endpoints.
    pub(crate) fn webhook_secret_key(&self) -> Result<&str> {
        let key = Some(self.webhook_secret_key.as_str()).filter(|key| !key.is_empty());
        key.with_context(|| format!("{NAME} has no webhook_secret_key"))
    }

    /// A bearer token for `subject` with these scopes, valid for `ttl` from now. A
    /// negative `ttl` gives an expired token.
    ///
    /// # Errors
    /// If the signing key is not valid.
    pub fn token(&self, subject: &str, scopes: Scopes, ttl: Duration) -> Result<String> {
        Ok(self.signing_key()?.token(subject, scopes, ttl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_of_an_earlier_release_are_kept_and_completed() {
        let json = r#"{
            "postgres": { "passbook": "p1", "account_service": "p2", "transaction_service": "p3",
                          "report_service": "p4", "auditor": "" },
            "nats": { "passbook": "n1", "account_service": "n2", "transaction_service": "n3" },
            "signing_key": "k" }"#;
        let mut secrets = Secrets::parse(json.as_bytes()).unwrap();
        assert!(secrets.postgres.of("auditor").is_err());
        secrets.complete().unwrap();
        assert_eq!(secrets.superuser_password().unwrap(), "p1");
        assert_eq!(secrets.postgres.of("report_service").unwrap(), "p4");
        assert_eq!(secrets.auditor_password().unwrap().len(), 32);
        assert_eq!(secrets.postgres.of(REPORT_READER).unwrap().len(), 32);
        let key = secrets.report_signing_key().unwrap().key_id();
        secrets.complete().unwrap();
        assert_eq!(secrets.report_signing_key().unwrap().key_id(), key);
        assert_eq!(secrets.webhook_secret_key().unwrap().len(), 44);
        assert_eq!(secrets.nats.of(permissions::OPERATOR).unwrap(), "n1");
        assert_eq!(secrets.nats.of(permissions::ACCOUNT_SERVICE).unwrap(), "n2");
        assert_eq!(secrets.nats.of(permissions::AUDITOR).unwrap().len(), 32);
    }

    #[test]
    fn data_without_its_superusers_password_is_an_error_and_the_file_stays() {
        let dir = std::env::temp_dir().join(format!("passbook-secrets-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let json = r#"{ "postgres": {}, "nats": {}, "signing_key": "k" }"#;
        fs::write(dir.join(NAME), json).unwrap();
        assert!(Secrets::read_or_create(&dir).is_err());
        assert_eq!(fs::read_to_string(dir.join(NAME)).unwrap(), json);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn every_user_of_the_broker_has_a_password() {
        let mut secrets = Secrets {
            postgres: Passwords::default(),
            nats: Passwords::default(),
            signing_key: String::new(),
            report_signing_key: String::new(),
            webhook_secret_key: String::new(),
        };
        secrets.complete().unwrap();
        permissions::broker_accounts(&contract::STANDARD, |user| {
            secrets.nats.of(user).map(str::to_owned)
        })
        .unwrap();
    }
}
