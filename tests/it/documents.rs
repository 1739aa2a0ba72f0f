//! What the documents say: their links lead somewhere, their commands run and print what they
//! show, and the table of errors is complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tests::{
    Stack,
    process::passbook,
    stack::{folder, initialized_folder},
};
use tokio::process::Command;

const GUIDE: &str = "docs/api/guide.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The text of a file of the repository.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Commands of a document, and what it says that they print.
struct Example<'a> {
    commands: &'a str,
    printed: Option<&'a str>,
}

/// The blocks of commands, each with the text block that follows at once.
fn examples(document: &str) -> Vec<Example<'_>> {
    let mut examples = Vec::new();
    let mut rest = document;
    while let Some((_, begun)) = rest.split_once("\n```sh\n") {
        let (commands, after) = begun.split_once("\n```\n").unwrap();
        let printed = after.strip_prefix("```text\n").map(|text| text.split_once("\n```").unwrap());
        examples.push(Example { commands, printed: printed.map(|(text, _)| text) });
        rest = printed.map_or(after, |(_, after)| after);
    }
    examples
}

/// The text below a heading of the second level.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, begun) = document.split_once(&format!("\n## {heading}\n")).unwrap();
    begun.split_once("\n## ").map_or(begun, |(section, _)| section)
}

/// Replaces what lies between `begin` and `end` by `…`, each time.
fn hide_between(text: &str, begin: &str, end: &str) -> String {
    let mut parts = text.split(begin);
    let mut hidden = parts.next().unwrap().to_owned();
    for part in parts {
        let (_, after) = part.split_once(end).unwrap_or((part, ""));
        hidden.extend([begin, "…", end, after]);
    }
    hidden
}

/// A text without what differs between two runs: ids, times, hashes, cursors and column widths.
fn comparable(text: &str) -> String {
    let mut text = text.replace('\r', "");
    let differing =
        [("etag: ", "\n"), ("date: ", "\n"), ("nextCursor\":\"", "\""), ("valid (", ")")];
    for (begin, end) in differing {
        text = hide_between(&text, begin, end);
    }
    let is_inside = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let hide = |word: &str| {
        let is_id = word.len() >= 20 && word.contains(|c: char| c.is_ascii_digit());
        if is_id { "…".to_owned() } else { word.to_owned() }
    };
    let mut hidden = String::new();
    let mut word = String::new();
    for c in text.trim().chars().chain(['\n']) {
        if is_inside(c) {
            word.push(c);
            continue;
        }
        hidden.push_str(&hide(&word));
        word.clear();
        if !(c == ' ' && hidden.ends_with(' ')) {
            hidden.push(c);
        }
    }
    hidden
}

/// As [`comparable`], without numbers.
fn without_numbers(text: &str) -> String {
    let digits = |c: char| c.is_ascii_digit();
    comparable(text).split(digits).filter(|part| !part.is_empty()).collect()
}

/// Runs the examples one after the other, in one shell, in a folder as after `make run`. The stack
/// is their own: `verify` prints the state of all of it.
async fn assert_printed(name: &str, document: &str) {
    let arguments = ["--port", "0", "--account-replicas", "1", "--transaction-replicas", "1"];
    let arguments = [&arguments[..], &["--report-replicas", "1"]].concat();
    let stack = Stack::start_in(&initialized_folder(name).await, &arguments).await;
    let folder = folder(&format!("{name}-clone"));
    symlink(&stack.dir, folder.join(".passbook")).unwrap();
    fs::create_dir(folder.join("target")).unwrap();
    symlink(passbook().parent().unwrap(), folder.join("target/debug")).unwrap();

    let examples = examples(document);
    assert!(examples.len() >= 5, "{name} has {} examples", examples.len());
    let end = "\n=== the end of an example ===\n";
    let print_end = format!("\nprintf '%s' '{end}'\n");
    let script: String = examples.iter().flat_map(|it| [it.commands, &print_end]).collect();
    let ran = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(&folder)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .await
        .unwrap();
    let stdout = String::from_utf8(ran.stdout.clone()).unwrap();
    assert!(ran.status.success(), "{name}: {ran:?}");
    for (example, printed) in examples.iter().zip(stdout.split(end)) {
        let Some(expected) = example.printed else { continue };
        let is_count = example.commands.ends_with("passbook verify");
        let form = if is_count { without_numbers } else { comparable };
        assert_eq!(form(printed), form(expected), "{name}: {}", example.commands);
    }
}

#[tokio::test]
async fn the_walk_in_the_readme_prints_what_it_shows() {
    assert_printed("documents-readme", section(&read("README.md"), "A walk with curl")).await;
}

#[tokio::test]
async fn the_commands_of_the_guide_print_what_it_shows() {
    assert_printed("documents-guide", &read(GUIDE)).await;
}

#[test]
fn the_table_of_errors_has_every_type_with_its_status() {
    let mut table = BTreeMap::new();
    let guide = read(GUIDE);
    for row in section(&guide, "Errors").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split(" | ").collect();
        for slug in cells[0].split('`').skip(1).step_by(2) {
            let status: u64 = cells[1].parse().unwrap();
            assert_eq!(table.insert(slug.to_owned(), status), None, "{slug} has two rows");
        }
    }
    let document: Value = serde_json::from_str(&read("docs/openapi.json")).unwrap();
    let types = document["x-problem-types"].as_array().unwrap().iter();
    let types: BTreeMap<_, _> = types
        .map(|it| (it["slug"].as_str().unwrap().to_owned(), it["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(table, types);
}

/// All documents of the repository.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_str().unwrap();
        let is_ours = !name.starts_with('.') && !["target", "node_modules"].contains(&name);
        if entry.file_type().unwrap().is_dir() && is_ours {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The lines outside of blocks of code.
fn prose(document: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    document.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings = prose(document).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
            let title = line.trim_start_matches('#').trim().to_lowercase();
            title.chars().filter(kept).collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_of_a_document_leads_to_a_file_and_a_heading() {
    let mut files = Vec::new();
    documents(root(), &mut files);
    assert!(files.len() > 15, "{files:?}");
    let mut broken = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        for link in prose(&text).flat_map(|line| line.split("](").skip(1)) {
            let (link, _) = link.split_once(')').unwrap();
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { file.with_file_name(path) };
            let is_found = match fs::read_to_string(&target) {
                Ok(text) => anchor.is_empty() || anchors(&text).contains(anchor),
                Err(_) => target.is_dir() && anchor.is_empty(),
            };
            if !is_found {
                broken.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links: {broken:#?}");
}
