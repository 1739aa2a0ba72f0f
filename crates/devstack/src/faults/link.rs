//! A link: a TCP proxy between one process and one server. It stands for the
//! network between them, and can be impaired.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::bytes::{Bytes, BytesMut};
use tracing::warn;

use super::{fault::Fault, impairment::Impairment};

const CHUNK: usize = 16 * 1024;
/// Number of chunks in flight in one direction of a connection. Beyond it, the
/// link stops reading, as with a full TCP window.
const CHUNKS_IN_FLIGHT: usize = 64;
/// How late the runtime's timer can be.
const TIMER_SLACK: Duration = Duration::from_millis(2);
const RETRY_DELAY: Duration = Duration::from_millis(50);
/// Time until a server ends a connection whose client vanished, as its keepalives do:
/// those of the services' database connections take 25 s.
const SERVER_KEEPALIVE: Duration = Duration::from_secs(25);

/// An open link. Closed on drop.
#[derive(Debug)]
pub(crate) struct Link {
    /// `<process>/<server>`.
    pub(crate) name: String,
    /// The port to which the process connects.
    pub(crate) port: u16,
    impairment: watch::Sender<Impairment>,
    _task: JoinSet<()>,
}

impl Link {
    /// Relays all connections from `listener` to the port of the server.
    ///
    /// # Errors
    /// If the listener can't be used.
    pub(crate) fn open(name: String, listener: StdListener, server_port: u16) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let port = address.port();
        let listener = TcpListener::from_std(listener)?;
        let (impairment, receiver) = watch::channel(Impairment::default());
        let mut task = JoinSet::new();
        task.spawn(serve(name.clone(), listener, address, server_port, receiver));
        Ok(Self { name, port, impairment, _task: task })
    }

    /// The state, as `passbook dev fault ls` shows it.
    pub(crate) fn describe(&self) -> String {
        self.impairment.borrow().describe()
    }

    /// Applies a fault to all connections, present and future.
    pub(crate) fn apply(&self, fault: Fault) {
        self.impairment.send_modify(|impairment| impairment.apply(fault));
    }
}

async fn serve(
    name: String,
    first: TcpListener,
    address: SocketAddr,
    server_port: u16,
    mut impairment: watch::Receiver<Impairment>,
) {
    let server = SocketAddr::new(address.ip(), server_port);
    let mut listener = Some(first);
    let for_connections = impairment.clone();
    let mut connections = JoinSet::new();
    loop {
        let listening = match listener.take() {
            Some(listening) => listening,
            None => match TcpListener::bind(address).await {
                Ok(listening) => listening,
                Err(error) => {
                    warn!("the link {name} can't listen on {address}: {error}");
                    sleep(RETRY_DELAY).await;
                    continue;
                }
            },
        };
        loop {
            while connections.try_join_next().is_some() {}
            tokio::select! {
                accepted = listening.accept() => match accepted {
                    Ok((client, _)) => {
                        let impairment = for_connections.clone();
                        connections.spawn(connection(client, server, impairment));
                    }
                    Err(error) => {
                        warn!("the link {name} can't accept a connection: {error}");
                        sleep(RETRY_DELAY).await;
                    }
                },
                () = until(&mut impairment, |impairment| impairment.refused) => break,
            }
        }
        // Without a listener, the system refuses connections by itself.
        drop(listening);
        until(&mut impairment, |impairment| !impairment.refused).await;
    }
}

async fn connection(
    mut client: TcpStream,
    server: SocketAddr,
    mut impairment: watch::Receiver<Impairment>,
) {
    let cuts = impairment.borrow_and_update().cuts;
    let mut broken = impairment.clone();
    let complete = tokio::select! {
        ended = relay(&mut client, server, impairment) => ended.is_ok(),
        () = until(&mut broken, |now| now.cuts != cuts || now.refused) => false,
    };
    if !complete {
        // Closes with a reset, as a broken connection does.
        let _ = client.set_zero_linger();
    }
}

async fn relay(
    client: &mut TcpStream,
    mut server: SocketAddr,
    mut impairment: watch::Receiver<Impairment>,
) -> io::Result<()> {
    let vanished = impairment.borrow_and_update().vanished;
    let mut vanish = impairment.clone();
    let vanish = until(&mut vanish, |now| now.vanished != vanished);
    tokio::pin!(vanish);
    // Of a silent client, the system accepts the connection, and the server does not see it.
    tokio::select! {
        () = until(&mut impairment, |impairment| !impairment.requests_silent) => {}
        () = &mut vanish => return closed(client).await,
    }
    if let Some(port) = impairment.borrow().redirected {
        server.set_port(port);
    }
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let both = async {
        tokio::try_join!(
            copy(from_client, to_server, impairment.clone(), |now| now.requests_silent),
            copy(from_server, to_client, impairment, |now| now.responses_silent),
        )
    };
    let both = tokio::select! {
        both = both => both,
        () = vanish => {
            sleep(SERVER_KEEPALIVE).await;
            let _ = server.set_zero_linger();
            drop(server);
            return closed(client).await;
        }
    };
    if both.is_err() {
        let _ = server.set_zero_linger();
    }
    both.map(|_| ())
}

/// Waits until the client closes the connection, and reads nothing.
async fn closed(client: &TcpStream) -> io::Result<()> {
    while !client.ready(Interest::READABLE).await?.is_read_closed() {
        sleep(SERVER_KEEPALIVE).await;
    }
    Ok(())
}

/// Copies one direction of a connection until its end.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    impairment: watch::Receiver<Impairment>,
    silent: impl Fn(&Impairment) -> bool,
) -> io::Result<()> {
    let (sender, mut queue) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_IN_FLIGHT);
    let mut for_write = impairment.clone();
    let read = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            if from.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            let delay = Duration::from_millis(impairment.borrow().delay_milliseconds.into());
            let due = Instant::now() + delay;
            if sender.send((due, buffer.split().freeze())).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = queue.recv().await {
            sleep_exactly_until(due).await;
            until(&mut for_write, |now| !silent(now)).await;
            to.write_all(&bytes).await?;
            let rate = for_write.borrow().bytes_per_second;
            if let Some(rate) = rate {
                let bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                sleep(Duration::from_secs(1) * bytes / rate.max(1)).await;
            }
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_: ((), ())| ())
}

/// Waits until `due`. The runtime's timer can be later than a short delay is
/// long, so a thread sleeps the last part.
async fn sleep_exactly_until(due: Instant) {
    if due <= Instant::now() {
        return;
    }
    if let Some(shortly_before) = due.checked_sub(TIMER_SLACK) {
        sleep_until(shortly_before).await;
    }
    let rest = due.saturating_duration_since(Instant::now());
    // The thread can't panic, and after a failed sleep the bytes are only early.
    let _ = tokio::task::spawn_blocking(move || std::thread::sleep(rest)).await;
}

/// Waits until the condition is met. Waits forever once the link is gone.
async fn until(
    impairment: &mut watch::Receiver<Impairment>,
    condition: impl FnMut(&Impairment) -> bool,
) {
    if impairment.wait_for(condition).await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
