//! A TCP connection with the bytes that were received and not used yet.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Buffer space of each read, in bytes. Most messages fit.
const READ: usize = 8 * 1024;
/// How long a closed connection still receives. If it were closed with unread
/// bytes, the kernel would reset it, and the client could lose the response.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) received: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        // This fails only on a closed socket, which the next read notices.
        let _ = stream.set_nodelay(true);
        Self { stream, received: Vec::new() }
    }

    /// Waits for the next bytes. False if the peer closed the connection.
    pub(super) async fn has_data(&mut self) -> io::Result<bool> {
        Ok(!self.received.is_empty() || receive(&mut self.stream, &mut self.received).await? > 0)
    }

    /// Whether the peer has neither closed the connection nor sent anything.
    pub(super) fn is_idle(&self) -> bool {
        let unexpected = self.stream.try_read(&mut [0]);
        self.received.is_empty()
            && unexpected.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Closes the connection after the peer has received everything.
    pub(super) async fn close(mut self) {
        let drain = async {
            self.stream.shutdown().await?;
            while receive(&mut self.stream, &mut self.received).await? > 0 {
                self.received.clear();
            }
            io::Result::Ok(())
        };
        // The peer may have closed it first.
        let _ = timeout(LINGER, drain).await;
    }
}

/// Reads once, and appends to the buffer. 0 if the peer closed the connection.
pub(super) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
) -> io::Result<usize> {
    received.reserve(READ);
    stream.read_buf(received).await
}

pub(super) fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
