//! One keep-alive connection that carries one request at a time.
//!
//! Written by hand on `httparse`: hyper's client spends more on a request than
//! both system calls that it needs.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Room that every read gets: a record and its head fit in.
const READ: usize = 4096;
/// Headers of an answer at most.
const HEADERS: usize = 24;

/// A connection to one replica.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

/// Where an answer's parts lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    length: usize,
    body: usize,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(READ) })
    }

    /// Sends a whole request and waits for the whole answer. After an error,
    /// the connection is of no use any more.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Received<'_>> {
        self.stream.write_all(request).await?;
        self.received.clear();
        let mut head = None;
        let Head { status, length, body } = loop {
            self.received.reserve(READ);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if head.is_none() {
                head = parse(&self.received)?;
            }
            match head {
                Some(head) if self.received.len() >= head.body + head.length => break head,
                _ => {}
            }
        };
        let body = self.received.get(body..body + length).unwrap_or_default();
        Ok(Received { status, body })
    }
}

/// The head of an answer; `None` while it is not all there.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| invalid(&error.to_string()))?;
    let httparse::Status::Complete(body) = parsed else { return Ok(None) };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
        .ok_or_else(|| invalid("an answer without a length"))?;
    Ok(Some(Head { status: response.code.unwrap_or_default(), length, body }))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_its_head_is_whole_and_must_tell_its_length() {
        let whole = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(&whole[..30]).unwrap(), None);
        let head = Head { status: 202, length: 2, body: 44 };
        assert_eq!(parse(whole).unwrap(), Some(head));
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"not HTTP at all\r\n").is_err());
    }
}
