//! The secrets of one stack: made at its first start, then kept in
//! `secrets.json`, since the data of the next run was written under them.

use std::{fs, io, path::Path};

use anyhow::{Context, Result};
use contract::permissions;
use credentials::{SigningKey, random_password};
use serde::{Deserialize, Serialize};
use time::Duration;

use crate::private_file;

const NAME: &str = "secrets.json";

/// Passwords and the key that signs bearer tokens.
#[derive(Serialize, Deserialize)]
pub struct Secrets {
    /// Of PostgreSQL's roles.
    pub postgres: PostgresPasswords,
    /// Of the broker's users.
    pub nats: NatsPasswords,
    /// The Ed25519 key pair, PKCS#8 in base64.
    signing_key: String,
}

/// A password for each role in PostgreSQL.
#[derive(Serialize, Deserialize)]
pub struct PostgresPasswords {
    /// Of `passbook`, the superuser.
    pub passbook: String,
    /// Of `account_service`.
    pub account_service: String,
    /// Of `transaction_service`.
    pub transaction_service: String,
    /// Of `report_service`.
    pub report_service: String,
    /// Of `auditor`, which may read all of them.
    #[serde(default)]
    pub auditor: String,
}

/// A password for each of the broker's users.
#[derive(Serialize, Deserialize)]
pub struct NatsPasswords {
    /// Of the operator.
    #[serde(alias = "passbook")]
    pub operator: String,
    /// Of the auditor.
    #[serde(default)]
    pub auditor: String,
    /// Of the account-service.
    pub account_service: String,
    /// Of the transaction-service.
    pub transaction_service: String,
}

impl NatsPasswords {
    /// The password of a user of [`permissions`].
    pub(crate) fn of(&self, user: &str) -> String {
        let password = match user {
            permissions::ACCOUNT_SERVICE => &self.account_service,
            permissions::TRANSACTION_SERVICE => &self.transaction_service,
            permissions::AUDITOR => &self.auditor,
            _ => &self.operator,
        };
        password.clone()
    }
}

impl Secrets {
    /// The secrets of the stack in the folder `dir`.
    ///
    /// # Errors
    /// When no stack was ever started there, or the file can't be read.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        fs::read(&path)
            .map_err(anyhow::Error::from)
            .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
            .with_context(|| path.display().to_string())
    }

    /// As [`Secrets::read`], but makes those that are not there yet.
    pub(crate) fn read_or_make(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let mut secrets = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make()?,
            _ => Self::read(dir)?,
        };
        // A folder of an earlier release has none of these.
        for password in [&mut secrets.postgres.auditor, &mut secrets.nats.auditor] {
            if password.is_empty() {
                *password = random_password()?;
            }
        }
        private_file::write(&path, &serde_json::to_vec_pretty(&secrets)?)?;
        Ok(secrets)
    }

    fn make() -> Result<Self> {
        Ok(Self {
            postgres: PostgresPasswords {
                passbook: random_password()?,
                account_service: random_password()?,
                transaction_service: random_password()?,
                report_service: random_password()?,
                auditor: random_password()?,
            },
            nats: NatsPasswords {
                operator: random_password()?,
                auditor: random_password()?,
                account_service: random_password()?,
                transaction_service: random_password()?,
            },
            signing_key: SigningKey::generate()?.to_base64(),
        })
    }

    /// The key pair that signs bearer tokens.
    pub(crate) fn signing_key(&self) -> Result<SigningKey> {
        SigningKey::from_base64(&self.signing_key)
    }

    /// A bearer token for `subject` in `role`, valid for `ttl` from now. A
    /// negative `ttl` gives an expired token.
    ///
    /// # Errors
    /// If the signing key is not valid.
    pub fn token(&self, subject: &str, role: &str, ttl: Duration) -> Result<String> {
        Ok(self.signing_key()?.token(subject, role, ttl))
    }
}
