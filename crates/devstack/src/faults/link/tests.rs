//! The link between a client and an echo server.

use std::net::Ipv4Addr;

use tokio::time::timeout;

use super::*;

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(5);

/// A link to an echo server.
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
async fn cut_connections_are_reset_and_new_ones_refused_until_the_link_passes() {
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
                Err(_) => sleep(RETRY_DELAY).await,
            }
        }
    });
    assert_eq!(&ask(&mut again.await.unwrap()).await.unwrap(), b"ping");
}

#[tokio::test]
async fn a_silent_link_keeps_connections_open_and_loses_nothing() {
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
async fn a_redirected_link_leads_to_another_server_until_it_passes() {
    let link = echo().await;
    let mut first = connect(&link).await.unwrap();
    assert_eq!(&ask(&mut first).await.unwrap(), b"ping");
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    link.apply(Fault::Redirect(other.local_addr().unwrap().port()));
    timeout(LONG, ask(&mut first)).await.unwrap().unwrap_err();
    let mut second = connect(&link).await.unwrap();
    let (mut accepted, _) = timeout(LONG, other.accept()).await.unwrap().unwrap();
    accepted.write_all(b"pong").await.unwrap();
    assert_eq!(&ask(&mut second).await.unwrap(), b"pong");
    link.apply(Fault::Pass);
    timeout(LONG, second.read_u8()).await.unwrap().unwrap_err();
    let mut third = connect(&link).await.unwrap();
    assert_eq!(&ask(&mut third).await.unwrap(), b"ping");
}

#[tokio::test]
async fn vanished_connections_stay_silent_for_ever_and_new_ones_pass() {
    let link = echo().await;
    let mut old = connect(&link).await.unwrap();
    assert_eq!(&ask(&mut old).await.unwrap(), b"ping");
    link.apply(Fault::Vanish);
    let mut new = connect(&link).await.unwrap();
    assert_eq!(&timeout(LONG, ask(&mut new)).await.unwrap().unwrap(), b"ping");
    link.apply(Fault::Pass);
    timeout(SHORT, ask(&mut old)).await.unwrap_err();
    assert_eq!(&ask(&mut new).await.unwrap(), b"ping");
}

#[tokio::test]
async fn a_link_can_be_silent_in_one_direction() {
    for fault in [Fault::SilenceRequests, Fault::SilenceResponses] {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let link = Link::open("test".into(), listener, port).unwrap();
        let mut client = connect(&link).await.unwrap();
        let mut server = server.accept().await.unwrap().0;
        link.apply(fault);
        client.write_all(b"q").await.unwrap();
        server.write_all(b"a").await.unwrap();
        let (mut silent, mut passing) = match fault {
            Fault::SilenceRequests => (server, client),
            _ => (client, server),
        };
        timeout(LONG, passing.read_u8()).await.unwrap().unwrap();
        timeout(SHORT, silent.read_u8()).await.unwrap_err();
        link.apply(Fault::Pass);
        timeout(LONG, silent.read_u8()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_delay_applies_to_each_direction_and_a_throttle_to_each_byte() {
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
    // Four bytes take 40 ms in each direction. The last response has no chunk behind it.
    assert!(clock.elapsed() >= Duration::from_millis(120), "{:?}", clock.elapsed());
}
