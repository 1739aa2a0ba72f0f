//! The socket of a connection.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{automatic, connection::Connection};

/// Notes what is received and whether bytes wait to be sent, and gives hyper's own error responses a
/// body.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    connection: Arc<Connection>,
    /// What is sent in place of hyper's response, and how much of it is sent.
    replacement: Option<(Vec<u8>, usize)>,
    /// Whether a write waits. Without it, a flush would take the lock of the phase.
    unsent: bool,
}

impl Socket {
    pub(super) const fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self { stream, connection, replacement: None, unsent: false }
    }

    /// Hyper drops a response's body before it has written all of it.
    fn set_unsent(&mut self, unsent: bool) {
        if self.unsent != unsent {
            self.unsent = unsent;
            self.connection.set_unsent(unsent);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, replacement, .. } = self;
        if replacement.is_none() {
            *replacement = automatic::with_body(bytes).map(|response| (response, 0));
        }
        let Some((response, sent)) = replacement else {
            return Pin::new(stream).poll_write(cx, bytes);
        };
        while let Some(rest) = response.get(*sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *sent += written,
            }
        }
        *replacement = None;
        Poll::Ready(Ok(bytes.len()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.stream.poll_read_ready(cx))?;
        if self.connection.is_held(cx) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let received = buffer.filled().len().saturating_sub(before);
        if received > 0 {
            self.connection.received(received);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.write(cx, bytes);
        if written.is_pending() {
            self.set_unsent(true);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = buffers.iter().find(|buffer| !buffer.is_empty());
        match first {
            Some(first) if self.replacement.is_some() || automatic::is_empty_error(first) => {
                self.poll_write(cx, first)
            }
            _ => {
                let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
                if written.is_pending() {
                    self.set_unsent(true);
                }
                written
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Hyper flushes once it has written everything.
        self.set_unsent(false);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
