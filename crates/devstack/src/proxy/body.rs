//! Where the body of a message ends (RFC 9112, section 6). The bytes themselves
//! are forwarded unchanged.

use std::io;

use super::connection::invalid;

/// The part of a body that is still to be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// This many bytes.
    Length(u64),
    Chunked(Chunk),
    /// Everything until the end of the connection.
    UntilClose,
}

/// The next byte of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// A digit of the size, of which `digits` were read, or its end.
    Size {
        size: u64,
        digits: u8,
    },
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataEnd,
    DataEndLine,
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastEnd,
    Done,
}

/// Before the first chunk.
pub const FIRST_CHUNK: Body = Body::Chunked(Chunk::Size { size: 0, digits: 0 });
/// Digits of a size below 2^60.
const MAX_DIGITS: u8 = 15;

impl Body {
    pub fn is_done(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Done))
    }

    /// Consumes bytes of the body. Returns their number: the rest belongs to the
    /// next message.
    ///
    /// # Errors
    /// The chunks are malformed.
    pub fn consume(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::UntilClose => Ok(bytes.len()),
            Self::Length(rest) => {
                let used = usize::try_from(*rest).unwrap_or(usize::MAX).min(bytes.len());
                *rest -= u64::try_from(used).unwrap_or(0);
                Ok(used)
            }
            Self::Chunked(chunk) => chunk.consume(bytes),
        }
    }
}

impl Chunk {
    fn consume(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while *self != Self::Done {
            if let Self::Data(size) = *self {
                let used = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
                let left = size - u64::try_from(used).unwrap_or(0);
                rest = rest.get(used..).unwrap_or_default();
                *self = if left > 0 { Self::Data(left) } else { Self::DataEnd };
            }
            let Some((byte, others)) = rest.split_first() else { break };
            *self = self.next(*byte).ok_or_else(|| invalid("a chunk is malformed"))?;
            rest = others;
        }
        Ok(bytes.len() - rest.len())
    }

    /// The state after a byte other than data. `None`: the byte is not allowed.
    fn next(self, byte: u8) -> Option<Self> {
        let after_size = |size| if size > 0 { Self::Data(size) } else { Self::TrailerStart };
        Some(match (self, byte) {
            (Self::Size { size, digits }, b'\r') if digits > 0 => Self::SizeEnd(size),
            (Self::Size { size, digits }, b';' | b' ' | b'\t') if digits > 0 => {
                Self::Extension(size)
            }
            (Self::Size { size, digits }, digit) if digits < MAX_DIGITS => {
                let digit = char::from(digit).to_digit(16)?;
                Self::Size { size: size * 16 + u64::from(digit), digits: digits + 1 }
            }
            (Self::Extension(size), b'\r') => Self::SizeEnd(size),
            (Self::Extension(size), byte) if byte != b'\n' => Self::Extension(size),
            (Self::SizeEnd(size), b'\n') => after_size(size),
            (Self::DataEnd, b'\r') => Self::DataEndLine,
            (Self::DataEndLine, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::TrailerStart, b'\r') => Self::LastEnd,
            (Self::TrailerStart | Self::Trailer, byte) if byte != b'\r' && byte != b'\n' => {
                Self::Trailer
            }
            (Self::Trailer, b'\r') => Self::TrailerEnd,
            (Self::TrailerEnd, b'\n') => Self::TrailerStart,
            (Self::LastEnd, b'\n') => Self::Done,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKS: &[u8] =
        b"5\r\nhello\r\n1A;name=\"v\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nx-sum: 1\r\n\r\n";

    #[test]
    fn a_chunked_body_ends_after_its_trailers_wherever_it_is_split() {
        for split in 0..=CHUNKS.len() {
            let mut body = FIRST_CHUNK;
            let (first, second) = CHUNKS.split_at(split);
            assert_eq!(body.consume(first).unwrap(), split);
            assert_eq!(body.is_done(), split == CHUNKS.len(), "{split}");
            let next = [second, b"GET / HTTP/1.1"].concat();
            assert_eq!(body.consume(&next).unwrap(), second.len());
            assert!(body.is_done());
        }
    }

    #[test]
    fn malformed_chunks_are_errors() {
        for wrong in [
            "\r\n",
            "g\r\n",
            "5\nhello",
            "2\r\nabc\r\n",
            "1\r\na\n",
            "0\r\n\n",
            "fffffffffffffffff\r\n",
            "1;a\nb\r\n",
        ] {
            let mut body = FIRST_CHUNK;
            assert!(body.consume(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_body_with_a_length_ends_there() {
        let mut body = Body::Length(5);
        assert_eq!(body.consume(b"abc").unwrap(), 3);
        assert!(!body.is_done());
        assert_eq!(body.consume(b"deGET").unwrap(), 2);
        assert!(body.is_done());
        let mut body = Body::UntilClose;
        assert_eq!((body.consume(b"abc").unwrap(), body.is_done()), (3, false));
    }
}
