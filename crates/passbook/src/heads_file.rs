//! The file of exported heads: lines of JSON.
//!
//! ```json
//! {"format":"passbook heads v1","createdAt":"2026-11-21T21:34:55.943571Z"}
//! {"accountId":"01a20008-…","link":3,"accountSeq":7,"hash":"…"}
//! ```
//!
//! After the first line, each account with a chain has one line, in the order of the account ids. The
//! time is the database's.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use contract::file_signature::FileSignature;
use reconciliation::Head;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::file_signature::{self, PublicKey};

const FORMAT: &str = "passbook heads v1";
/// Limit for a line, in bytes.
const MAX_LINE: u64 = 1_000;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    format: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// The line of an account.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    account_id: Uuid,
    link: i64,
    account_seq: i64,
    /// In hexadecimal digits.
    hash: String,
}

impl Header {
    /// The header of a file that is written at this time.
    #[must_use]
    pub fn new(created_at: OffsetDateTime) -> Self {
        Self { format: FORMAT.to_owned(), created_at }
    }

    /// The line, with its end.
    ///
    /// # Errors
    /// When RFC 3339 has no form of the time.
    pub fn to_line(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

impl Line {
    /// The line of a head.
    #[must_use]
    pub fn new(head: &Head) -> Self {
        let Head { account_id, link, account_seq, hash } = *head;
        let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { account_id, link, account_seq, hash }
    }

    /// The line, with its end.
    ///
    /// # Errors
    /// None: all of it has a JSON form.
    pub fn to_line(&self) -> Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    fn head(&self) -> Option<Head> {
        // `from_str_radix` also accepts a sign.
        if !self.hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut hash = [0; 32];
        for (index, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(self.hash.get(index * 2..index * 2 + 2)?, 16).ok()?;
        }
        let Self { account_id, link, account_seq, .. } = *self;
        (self.hash.len() == 64).then_some(Head { account_id, link, hash, account_seq })
    }
}

/// Where the signature of a file is.
#[must_use]
pub fn signature_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Heads to compare with the chains.
#[derive(Debug, Args)]
pub struct HeadsArguments {
    /// File of `passbook heads export`. Each of its heads must still be in the chain of its account.
    /// Its signature is read from FILE.sig.
    #[arg(long, value_name = "FILE", requires = "heads_public_key")]
    heads: Option<PathBuf>,
    /// PEM file with the public key of the signature. Take it from where the private key is kept, not
    /// from FILE.sig.
    #[arg(long, value_name = "FILE", requires = "heads")]
    heads_public_key: Option<PathBuf>,
}

impl HeadsArguments {
    /// Opens the file, after a check of its signature.
    ///
    /// # Errors
    /// When a file can't be read, or the signature is not one of the file by this key.
    pub fn open(&self) -> Result<Option<HeadsFile>> {
        let Some((path, key)) = self.heads.as_ref().zip(self.heads_public_key.as_ref()) else {
            return Ok(None);
        };
        let key = PublicKey::from_pem(&file_signature::read_text(key)?)
            .with_context(|| key.display().to_string())?;
        let signature_path = signature_path(path);
        let signature = file_signature::read_text(&signature_path).context("the signature")?;
        let signature: FileSignature = serde_json::from_str(&signature)
            .with_context(|| format!("{} is not a signature", signature_path.display()))?;
        let name = || path.display().to_string();
        let mut file = File::open(path).with_context(name)?;
        let digest = file_signature::digest(&mut file).with_context(name)?;
        if let Some(finding) = file_signature::check(&digest, &signature, &key) {
            bail!("{}: {finding}", path.display());
        }
        file.rewind().with_context(name)?;
        HeadsFile::new(file).with_context(name).map(Some)
    }
}

/// The heads of a file.
#[derive(Debug)]
pub struct HeadsFile<R = File> {
    reader: BufReader<R>,
    last: Option<Uuid>,
}

impl<R: Read> HeadsFile<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// When it can't be read, or is that of no such file.
    pub fn new(file: R) -> Result<Self> {
        let mut heads = Self { reader: BufReader::new(file), last: None };
        let header = heads.line()?.and_then(|line| serde_json::from_str::<Header>(&line).ok());
        let format = header.map(|header| header.format);
        ensure!(format.as_deref() == Some(FORMAT), "not a file of `passbook heads export`");
        Ok(heads)
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let size = (&mut self.reader).take(MAX_LINE).read_line(&mut line)?;
        Ok((size > 0).then_some(line))
    }

    fn head(&mut self) -> io::Result<Option<Head>> {
        let Some(line) = self.line()? else { return Ok(None) };
        let head = serde_json::from_str::<Line>(&line).ok().and_then(|line| line.head());
        let head = head.filter(|head| self.last.is_none_or(|last| last < head.account_id));
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "a line is invalid");
        let head = head.ok_or_else(invalid)?;
        self.last = Some(head.account_id);
        Ok(Some(head))
    }
}

impl<R: Read> Iterator for HeadsFile<R> {
    type Item = io::Result<Head>;

    fn next(&mut self) -> Option<Self::Item> {
        self.head().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(lines: &[String]) -> Result<Vec<io::Result<Head>>> {
        let mut file = tempfile::tempfile().unwrap();
        lines.iter().for_each(|line| file.write_all(line.as_bytes()).unwrap());
        file.rewind().unwrap();
        HeadsFile::new(file).map(Iterator::collect)
    }

    fn head(id: u128) -> Head {
        Head { account_id: Uuid::from_u128(id), link: 3, hash: [0xab; 32], account_seq: 7 }
    }

    #[test]
    fn heads_are_read_as_they_were_written() {
        let header = Header::new(OffsetDateTime::UNIX_EPOCH).to_line().unwrap();
        let line = |id| Line::new(&head(id)).to_line().unwrap();
        let heads = read(&[header.clone(), line(1), line(2)]).unwrap();
        let heads: Vec<_> = heads.into_iter().map(io::Result::unwrap).collect();
        assert_eq!(heads, [head(1), head(2)]);
        assert!(read(std::slice::from_ref(&header)).unwrap().is_empty());
        for wrong in
            [line(1), "{}\n".to_owned(), line(2).replace("abab", "äb"), line(2).replace("ab", "+a")]
        {
            assert!(read(&[header.clone(), line(1), wrong]).unwrap()[1].is_err());
        }
        for wrong in [String::new(), line(1), header.replace("v1", "v2")] {
            assert!(read(&[wrong]).is_err());
        }
    }
}
