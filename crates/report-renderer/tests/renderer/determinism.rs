//! The same document gives the same bytes.

use report_document::{Document, EntryFile, EntryWriter, Format, Kind};

use crate::{
    documents::{MadeEntries, activity, reconciliation},
    rendered,
};

fn formats(kind: Kind) -> impl Iterator<Item = Format> {
    kind.formats().iter().copied()
}

#[test]
fn the_same_document_gives_the_same_bytes_in_every_format() {
    let entries = MadeEntries { count: 3_000, exponent: 2, extra: 0 };
    let statement = entries.statement("USD");
    let (activity, reconciliation) = (activity(), reconciliation());
    let all = || {
        let documents = [
            Document::Statement(&statement, &entries),
            Document::Activity(&activity),
            Document::Reconciliation(&reconciliation),
        ];
        let files = documents.iter().flat_map(|document| {
            formats(document.kind())
                .map(move |format| (format, rendered(format, document).unwrap()))
        });
        files.collect::<Vec<_>>()
    };
    let first = all();
    // The clock must move on: times in archives have a resolution of two seconds.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    for ((format, bytes), (_, again)) in first.into_iter().zip(all()) {
        assert!(bytes == again, "{format}");
    }
}

#[test]
fn entries_from_a_file_give_the_same_bytes() {
    let entries = MadeEntries { count: 100, exponent: 0, extra: 0 };
    let statement = entries.statement("KRW");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("entries");
    let mut writer = EntryWriter::create(&path).unwrap();
    for entry in report_document::Entries::open(&entries).unwrap() {
        writer.write(&entry.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let file = EntryFile::new(&path);
    for format in formats(Kind::Statement) {
        let made = rendered(format, &Document::Statement(&statement, &entries)).unwrap();
        let read = rendered(format, &Document::Statement(&statement, &file)).unwrap();
        assert!(made == read, "{format}");
    }
}
