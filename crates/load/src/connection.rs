//! A keep-alive connection with one request at a time.
//!
//! Written by hand on `httparse`, because hyper's client costs more than both
//! system calls of a request.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Buffer space of each read, in bytes. A record with its response head fits.
const READ: usize = 4096;
/// Maximum number of response headers.
const HEADERS: usize = 24;

/// A connection to one replica.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct HttpResponse<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ResponseHead {
    status: u16,
    /// Bytes of the body.
    length: usize,
    /// Offset of the body.
    body: usize,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(READ) })
    }

    /// Sends a request and reads the complete response. After an error, the
    /// connection can't be used again.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<HttpResponse<'_>> {
        self.stream.write_all(request).await?;
        self.received.clear();
        let mut head = None;
        let ResponseHead { status, length, body } = loop {
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
        Ok(HttpResponse { status, body })
    }
}

/// Parses the head of a response. `None`: the head is not complete yet.
fn parse(bytes: &[u8]) -> io::Result<Option<ResponseHead>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| invalid(&error.to_string()))?;
    let httparse::Status::Complete(body) = parsed else { return Ok(None) };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
        .ok_or_else(|| invalid("the response has no Content-Length"))?;
    Ok(Some(ResponseHead { status: response.code.unwrap_or_default(), length, body }))
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_parsed_once_its_head_is_complete_and_needs_a_length() {
        let complete = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(&complete[..30]).unwrap(), None);
        let head = ResponseHead { status: 202, length: 2, body: 44 };
        assert_eq!(parse(complete).unwrap(), Some(head));
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"not HTTP at all\r\n").is_err());
    }
}
