//! Requests for the function that renders reports.

use std::{
    cell::RefCell,
    fs::File,
    io::{Read, Seek},
};

use report_document::{DocumentSource, Format, OwnedDocument, RenderRequest};
use report_renderer::RenderError;
use serde_json::Value;

/// A document is read as it was written. Every format holds it, or says why it can't. A path stays
/// in the folder of its attempt.
pub(super) fn render_requests(input: &[u8]) {
    let Ok(request) = serde_json::from_slice::<RenderRequest>(input) else { return };
    let json = match request.source() {
        Err(_) => return,
        Ok(DocumentSource::Inline(json)) => json.get(),
        Ok(DocumentSource::Reference(reference)) => {
            let folder = format!("{}/{}/", request.report_id, request.attempt);
            let name = reference.href.strip_prefix(&folder).unwrap();
            assert!(!["", ".", ".."].contains(&name) && !name.contains(['/', '\\']), "{name:?}");
            return;
        }
    };
    let Ok(document) = OwnedDocument::from_json(request.kind, json) else { return };
    let mut written = Vec::new();
    document.as_document().write_json(&mut written).unwrap();
    let written = String::from_utf8(written).unwrap();
    let again = OwnedDocument::from_json(request.kind, &written).unwrap();
    let mut twice = Vec::new();
    again.as_document().write_json(&mut twice).unwrap();
    assert_eq!(written.as_bytes(), twice);
    if let Some(file) = render(request.format, &document) {
        assert_file(request.format, &file, &written);
    }
}

/// The bytes of the file.
fn render(format: Format, document: &OwnedDocument) -> Option<Vec<u8>> {
    thread_local! {
        static FILE: RefCell<File> = RefCell::new(tempfile::tempfile().unwrap());
    }
    FILE.with_borrow_mut(|file| {
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        match report_renderer::render(format, &document.as_document(), file, &mut |_| true) {
            Ok(()) => {}
            Err(RenderError::Other(error)) => panic!("{error}"),
            Err(_) => return None,
        }
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        Some(bytes)
    })
}

fn assert_file(format: Format, file: &[u8], document: &str) {
    assert!(!file.is_empty());
    match format {
        Format::Pdf => assert!(file.starts_with(b"%PDF-")),
        Format::Xlsx => assert!(file.starts_with(b"PK")),
        Format::Csv => drop(str::from_utf8(file).unwrap()),
        Format::Json => {
            let document: Value = serde_json::from_str(document).unwrap();
            assert_eq!(
                serde_json::from_slice::<Value>(file).unwrap()["issuer"],
                document["issuer"]
            );
        }
        Format::Camt053 | Format::Html => assert_markup(str::from_utf8(file).unwrap()),
    }
}

/// Characters of XML 1.0, and no element but those of the layout.
fn assert_markup(file: &str) {
    let is_char = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    assert!(file.chars().all(is_char), "{file:?}");
    for part in file.split('<').skip(1) {
        let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        assert!(part.starts_with(['/', '!', '?']) || !name.is_empty(), "{part:?}");
        assert!(!["script", "iframe", "object", "img"].contains(&name.as_str()), "{part:?}");
    }
}
