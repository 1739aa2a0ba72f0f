//! The secrets of one stack: made at its first start, then kept in
//! `secrets.json`, since the data of the next run was written under them.

use std::{fs, io, path::Path};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::Ed25519KeyPair,
};
use serde::{Deserialize, Serialize};

use crate::{broker_users, private_file};

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
    /// The password of a user of [`broker_users`].
    pub(crate) fn of(&self, user: &str) -> String {
        let password = match user {
            broker_users::ACCOUNT_SERVICE => &self.account_service,
            broker_users::TRANSACTION_SERVICE => &self.transaction_service,
            broker_users::AUDITOR => &self.auditor,
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
                *password = random()?;
            }
        }
        private_file::write(&path, &serde_json::to_vec_pretty(&secrets)?)?;
        Ok(secrets)
    }

    fn make() -> Result<Self> {
        let random = SystemRandom::new();
        let key = Ed25519KeyPair::generate_pkcs8(&random).ok().context("making a signing key")?;
        Ok(Self {
            postgres: PostgresPasswords {
                passbook: password(&random)?,
                account_service: password(&random)?,
                transaction_service: password(&random)?,
                report_service: password(&random)?,
                auditor: password(&random)?,
            },
            nats: NatsPasswords {
                operator: password(&random)?,
                auditor: password(&random)?,
                account_service: password(&random)?,
                transaction_service: password(&random)?,
            },
            signing_key: BASE64_STANDARD.encode(key),
        })
    }

    /// The key pair that signs bearer tokens.
    pub(crate) fn signing_key(&self) -> Result<Ed25519KeyPair> {
        let pkcs8 = BASE64_STANDARD.decode(&self.signing_key).context("the signing key")?;
        Ed25519KeyPair::from_pkcs8(&pkcs8).ok().context("the signing key is not PKCS#8 of Ed25519")
    }
}

/// A new password: 128 random bits in hexadecimal, nothing to escape in a URL,
/// in SQL or in the broker's configuration.
///
/// # Errors
/// When the system has no random numbers.
pub fn random() -> Result<String> {
    password(&SystemRandom::new())
}

fn password(random: &SystemRandom) -> Result<String> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes).ok().context("no random numbers from the system")?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
