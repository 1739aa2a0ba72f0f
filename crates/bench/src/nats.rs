//! Connects to the stack's NATS.

use anyhow::{Context, Result};
use async_nats::{ConnectOptions, ServerAddr, jetstream};
use devstack::StackFile;

/// Connects with the user and password of the stack file.
pub(crate) async fn connect(file: &StackFile) -> Result<jetstream::Context> {
    let servers: Vec<ServerAddr> =
        file.nats.split(',').map(str::parse).collect::<Result<_, _>>()?;
    // The client ignores the credentials in an address.
    let credentials =
        servers.iter().find_map(|server| Some((server.username()?, server.password()?)));
    let (user, password) = credentials.context("the NATS address has no user and password")?;
    let options = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
    Ok(jetstream::new(options.connect(servers).await?))
}
