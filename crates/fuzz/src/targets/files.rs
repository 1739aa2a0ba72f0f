//! Files from elsewhere that `passbook` reads.

use std::sync::OnceLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use contract::file_signature::{ALGORITHM, FileSignature, signed_text};
use passbook::{
    file_signature::{Digester, FileDigest, PublicKey, check},
    heads_file::{HeadsFile, Line},
};

use serde_json::Value;

use super::{signing_key, text};

/// Heads are in order, and each is in the file as it is written.
pub(super) fn heads_files(input: &[u8]) {
    let Ok(heads) = HeadsFile::new(input) else { return };
    let file = String::from_utf8_lossy(input);
    let lines = file.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let hashes: Vec<_> =
        lines.filter_map(|line| Some(line["hash"].as_str()?.to_lowercase())).collect();
    let mut last = None;
    for head in heads.map_while(Result::ok) {
        assert!(last < Some(head.account_id), "{head:?}");
        last = Some(head.account_id);
        let line = Line::new(&head).to_line().unwrap();
        let json: Value = serde_json::from_str(&line).unwrap();
        assert!(hashes.iter().any(|hash| json["hash"] == **hash), "{line}");
        let written = [HEADER, line.as_bytes()].concat();
        let read = HeadsFile::new(&written[..]).unwrap().next().unwrap().unwrap();
        assert_eq!(read, head);
    }
}

const HEADER: &[u8] =
    b"{\"format\":\"passbook heads v1\",\"createdAt\":\"2026-11-21T21:34:55.943571Z\"}\n";

/// Only the signature of this file, by this key, is valid.
pub(super) fn file_signatures(input: &[u8]) {
    static SIGNED: OnceLock<(FileDigest, PublicKey, Vec<u8>)> = OnceLock::new();
    let (file, key, signature) = SIGNED.get_or_init(|| {
        let key = signing_key();
        let mut digester = Digester::new();
        digester.add(b"a statement");
        let file = digester.finish();
        let signature = key.sign(signed_text(&file.sha256, file.size).as_bytes());
        (file, PublicKey::from_pem(&key.public_key_pem()).unwrap(), signature)
    });
    let valid = FileSignature {
        algorithm: ALGORITHM.to_owned(),
        sha256: file.sha256.clone(),
        size: file.size,
        signature: STANDARD.encode(signature),
        public_key: String::new(),
    };
    if let Some(Ok(parsed)) = text(input).map(PublicKey::from_pem) {
        assert_eq!(check(file, &valid, &parsed).is_none(), parsed == *key);
    }
    let Ok(given) = serde_json::from_slice::<FileSignature>(input) else { return };
    let is_valid = check(file, &given, key).is_none();
    let is_same = given.algorithm == ALGORITHM
        && given.size == file.size
        && given.sha256.eq_ignore_ascii_case(&file.sha256)
        && STANDARD.decode(&given.signature).is_ok_and(|given| given == *signature);
    assert_eq!(is_valid, is_same, "{given:?}");
}
