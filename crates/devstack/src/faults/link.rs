//! A link: a TCP proxy between one process and one server, which is the
//! network between them for as long as something has to be wrong with it.

use std::{
    io,
    net::{Ipv4Addr, TcpListener as StdListener},
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::bytes::{Bytes, BytesMut};
use tracing::warn;

use super::Fault;

const CHUNK: usize = 16 * 1024;
/// Chunks on their way in one direction of a connection; more wait where they
/// come from, as they would for a full window.
const ON_THE_WAY: usize = 64;
/// How late the runtime's timer can be.
const TIMER: Duration = Duration::from_millis(2);
const RETRY: Duration = Duration::from_millis(50);

/// What happens to what is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    refused: bool,
    silent: bool,
    /// How often its connections were reset on purpose.
    cuts: u32,
    delay_milliseconds: u32,
    bytes_per_second: Option<u32>,
}

impl Traffic {
    /// For a person.
    pub(super) fn describe(self) -> String {
        let mut wrong = Vec::new();
        if self.refused {
            wrong.push("refused".to_owned());
        }
        if self.silent {
            wrong.push("silent".to_owned());
        }
        if self.delay_milliseconds > 0 {
            wrong.push(format!("{} ms late", self.delay_milliseconds));
        }
        wrong.extend(self.bytes_per_second.map(|it| format!("{it} bytes/s")));
        if wrong.is_empty() { "passes".to_owned() } else { wrong.join(", ") }
    }
}

/// A link that is open.
#[derive(Debug)]
pub(crate) struct Link {
    /// `<process>/<server>`.
    pub(crate) name: String,
    /// Where the process connects.
    pub(crate) port: u16,
    traffic: watch::Sender<Traffic>,
    /// Aborted when dropped.
    _task: JoinSet<()>,
}

impl Link {
    /// Listens on `listener` and passes everything on to `server`, a port.
    pub(crate) fn open(name: String, listener: StdListener, server: u16) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let listener = TcpListener::from_std(listener)?;
        let (traffic, watched) = watch::channel(Traffic::default());
        let mut task = JoinSet::new();
        task.spawn(serve(name.clone(), listener, port, server, watched));
        Ok(Self { name, port, traffic, _task: task })
    }

    /// What happens to what is sent, now.
    pub(crate) fn traffic(&self) -> Traffic {
        *self.traffic.borrow()
    }

    /// Has something happen to what is sent from now on.
    pub(crate) fn apply(&self, fault: Fault) {
        self.traffic.send_modify(|traffic| {
            let cuts = traffic.cuts;
            match fault {
                Fault::Cut => traffic.cuts = cuts.wrapping_add(1),
                Fault::Refuse => traffic.refused = true,
                Fault::Silence => traffic.silent = true,
                Fault::Delay(milliseconds) => traffic.delay_milliseconds = milliseconds,
                Fault::Throttle(bytes) => traffic.bytes_per_second = Some(bytes),
                _ => *traffic = Traffic { cuts, ..Traffic::default() },
            }
        });
    }
}

async fn serve(
    name: String,
    first: TcpListener,
    port: u16,
    server: u16,
    mut traffic: watch::Receiver<Traffic>,
) {
    let mut listener = Some(first);
    let for_connections = traffic.clone();
    let mut connections = JoinSet::new();
    loop {
        let listening = match listener.take() {
            Some(listening) => listening,
            None => match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
                Ok(listening) => listening,
                Err(error) => {
                    warn!("the link {name} can't listen: {error}");
                    sleep(RETRY).await;
                    continue;
                }
            },
        };
        loop {
            while connections.try_join_next().is_some() {}
            tokio::select! {
                accepted = listening.accept() => match accepted {
                    Ok((client, _)) => {
                        connections.spawn(connection(client, server, for_connections.clone()));
                    }
                    Err(error) => {
                        warn!("the link {name}: {error}");
                        sleep(RETRY).await;
                    }
                },
                () = until(&mut traffic, |it| it.refused) => break,
            }
        }
        // Nobody listens now: the system refuses by itself.
        drop(listening);
        until(&mut traffic, |it| !it.refused).await;
    }
}

async fn connection(mut client: TcpStream, server: u16, mut traffic: watch::Receiver<Traffic>) {
    let before = traffic.borrow_and_update().cuts;
    let mut cut = traffic.clone();
    let whole = tokio::select! {
        ended = relay(&mut client, server, traffic) => ended.is_ok(),
        () = until(&mut cut, |it| it.cuts != before || it.refused) => false,
    };
    if !whole {
        // A reset, as a connection that broke.
        let _ = client.set_zero_linger();
    }
}

async fn relay(
    client: &mut TcpStream,
    server: u16,
    mut traffic: watch::Receiver<Traffic>,
) -> io::Result<()> {
    // Accepted by the system, and not by the server.
    until(&mut traffic, |it| !it.silent).await;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let both = tokio::try_join!(
        pass(from_client, to_server, traffic.clone()),
        pass(from_server, to_client, traffic),
    );
    if both.is_err() {
        let _ = server.set_zero_linger();
    }
    both.map(|_| ())
}

/// One direction of a connection, to its end.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    traffic: watch::Receiver<Traffic>,
) -> io::Result<()> {
    let (send, mut queue) = mpsc::channel::<(Instant, Bytes)>(ON_THE_WAY);
    let mut toll = traffic.clone();
    let read = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            if from.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            let delay = Duration::from_millis(traffic.borrow().delay_milliseconds.into());
            let due = Instant::now() + delay;
            if send.send((due, buffer.split().freeze())).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = queue.recv().await {
            exactly(due).await;
            until(&mut toll, |it| !it.silent).await;
            to.write_all(&bytes).await?;
            let rate = toll.borrow().bytes_per_second;
            if let Some(rate) = rate {
                let bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                sleep(Duration::from_secs(1) * bytes / rate.max(1)).await;
            }
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_: ((), ())| ())
}

/// Waits until then. The runtime's timer can be late by more than was asked
/// for: the last bit is slept by a thread.
async fn exactly(due: Instant) {
    if due <= Instant::now() {
        return;
    }
    if let Some(shortly_before) = due.checked_sub(TIMER) {
        sleep_until(shortly_before).await;
    }
    let rest = due.saturating_duration_since(Instant::now());
    // It does not panic, and a sleep that is cut short delays nothing.
    let _ = tokio::task::spawn_blocking(move || std::thread::sleep(rest)).await;
}

/// Waits until the traffic is so. Nobody changes it once the link is gone.
async fn until(traffic: &mut watch::Receiver<Traffic>, so: impl FnMut(&Traffic) -> bool) {
    if traffic.wait_for(so).await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(150);
    const LONG: Duration = Duration::from_secs(5);

    /// A link to a server that sends everything back.
    async fn echo() -> Link {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = server.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = socket.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Link::open("test".into(), listener, port).unwrap()
    }

    async fn connect(link: &Link) -> io::Result<TcpStream> {
        TcpStream::connect((Ipv4Addr::LOCALHOST, link.port)).await
    }

    async fn ask(socket: &mut TcpStream) -> io::Result<[u8; 4]> {
        socket.write_all(b"ping").await?;
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn what_is_cut_is_reset_and_what_is_refused_stays_so_until_it_passes() {
        let link = echo().await;
        let mut socket = connect(&link).await.unwrap();
        assert_eq!(&ask(&mut socket).await.unwrap(), b"ping");
        link.apply(Fault::Cut);
        let reset = timeout(LONG, ask(&mut socket)).await.unwrap().unwrap_err();
        assert!(matches!(reset.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe));
        let mut socket = connect(&link).await.unwrap();
        assert_eq!(&ask(&mut socket).await.unwrap(), b"ping");

        link.apply(Fault::Refuse);
        timeout(LONG, ask(&mut socket)).await.unwrap().unwrap_err();
        let refused = connect(&link).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        link.apply(Fault::Pass);
        let again = timeout(LONG, async {
            loop {
                match connect(&link).await {
                    Ok(socket) => return socket,
                    Err(_) => sleep(RETRY).await,
                }
            }
        });
        assert_eq!(&ask(&mut again.await.unwrap()).await.unwrap(), b"ping");
    }

    #[tokio::test]
    async fn what_is_silent_keeps_connections_open_and_loses_nothing() {
        let link = echo().await;
        let mut old = connect(&link).await.unwrap();
        assert_eq!(&ask(&mut old).await.unwrap(), b"ping");
        link.apply(Fault::Silence);
        let mut new = connect(&link).await.unwrap();
        let (mut from_old, mut from_new) = ([0; 4], [0; 4]);
        for socket in [&mut old, &mut new] {
            socket.write_all(b"ping").await.unwrap();
            timeout(SHORT, socket.read_u8()).await.unwrap_err();
        }
        link.apply(Fault::Pass);
        timeout(LONG, old.read_exact(&mut from_old)).await.unwrap().unwrap();
        timeout(LONG, new.read_exact(&mut from_new)).await.unwrap().unwrap();
        assert_eq!((&from_old, &from_new), (b"ping", b"ping"));
    }

    #[tokio::test]
    async fn a_delay_goes_for_each_way_and_a_throttle_for_each_byte() {
        let link = echo().await;
        let mut socket = connect(&link).await.unwrap();
        link.apply(Fault::Delay(60));
        let clock = Instant::now();
        ask(&mut socket).await.unwrap();
        assert!(clock.elapsed() >= Duration::from_millis(120), "{:?}", clock.elapsed());
        link.apply(Fault::Pass);
        link.apply(Fault::Throttle(100));
        let clock = Instant::now();
        for _ in 0..4 {
            ask(&mut socket).await.unwrap();
        }
        // 40 ms a way for four bytes; the last answer need not wait behind itself.
        assert!(clock.elapsed() >= Duration::from_millis(120), "{:?}", clock.elapsed());
    }
}
