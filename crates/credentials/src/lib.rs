//! Generates credentials: passwords of databases and the broker, keys that
//! encrypt, and the key pair behind bearer tokens. `passbook secrets` uses them for Kubernetes, the
//! development stack for its own directory. The services never sign anything.

mod signing_key;

pub use signing_key::SigningKey;

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::rand::{SecureRandom, SystemRandom};

/// A new password: 128 random bits in hexadecimal. Needs no escaping in a URL,
/// in SQL or in the broker's configuration.
///
/// # Errors
/// If the system provides no random numbers.
pub fn random_password() -> Result<String> {
    let mut bytes = [0; 16];
    let random = SystemRandom::new();
    random.fill(&mut bytes).ok().context("the system provides no random numbers")?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// A new key of 256 random bits, in base64.
///
/// # Errors
/// If the system provides no random numbers.
pub fn random_key() -> Result<String> {
    let mut bytes = [0; 32];
    let random = SystemRandom::new();
    random.fill(&mut bytes).ok().context("the system provides no random numbers")?;
    Ok(STANDARD.encode(bytes))
}
