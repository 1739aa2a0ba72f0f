//! Checks the documents like code: links, anchors, paths, make targets, settings
//! and command lines that they mention exist.
#![cfg(feature = "dev")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use clap::CommandFactory;

use crate::cli::Cli;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Directories whose files documents mention by path.
const DIRECTORIES: [&str; 6] = ["crates/", "docs/", "tests/", "deploy/", "k8s/", "migrations/"];

/// A Markdown file, without its code blocks.
struct Document {
    path: PathBuf,
    prose: String,
    /// Lines of `sh` and `bash` blocks.
    commands: Vec<String>,
}

/// Every Markdown file of the checkout, tools and build outputs aside.
fn documents() -> Vec<Document> {
    let root = Path::new(ROOT);
    let mut paths = Vec::new();
    for directory in ["", "docs", "k8s", "deploy/observability", ".github"] {
        let entries = fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
        paths.extend(entries.map(|entry| entry.path()));
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    assert!(paths.len() >= 12, "{paths:?}");
    paths.into_iter().map(Document::read).collect()
}

impl Document {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let (mut prose, mut commands, mut block) = (String::new(), Vec::new(), None);
        for line in text.lines() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                block = if block.is_none() { Some(language.trim()) } else { None };
                continue;
            }
            match block {
                None => prose.extend([line, "\n"]),
                Some("sh" | "bash") => commands.push(line.trim().to_owned()),
                Some(_) => {}
            }
        }
        Self { path, prose, commands }
    }

    /// The texts between single backticks.
    fn inline_code(&self) -> impl Iterator<Item = &str> {
        self.prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
    }

    /// The targets of relative links.
    fn links(&self) -> impl Iterator<Item = &str> {
        let targets = self.prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
    }

    /// The anchors of its headings, as GitHub derives them.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose.lines().filter(|line| line.starts_with('#'));
        let anchor = |heading: &str| {
            let title = heading.trim_start_matches('#').trim().to_lowercase();
            let kept =
                title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }

    fn name(&self) -> String {
        self.path.strip_prefix(ROOT).unwrap_or(&self.path).display().to_string()
    }
}

/// Resolves `.` and `..` without touching the file system.
fn normalized(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, component| {
        match component {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
        normal
    })
}

fn fail_on(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut findings = Vec::new();
    for document in documents() {
        for link in document.links() {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let directory = document.path.parent().unwrap();
            let target = if file.is_empty() { document.path.clone() } else { directory.join(file) };
            if !target.exists() {
                findings.push(format!("{}: no file {link}", document.name()));
            } else if !anchor.is_empty()
                && target.extension().is_some_and(|extension| extension == "md")
                && !Document::read(normalized(&target)).anchors().contains(anchor)
            {
                findings.push(format!("{}: no heading {link}", document.name()));
            }
        }
    }
    fail_on(&findings);
}

#[test]
fn paths_exist() {
    let mut findings = Vec::new();
    for document in documents() {
        for code in document.inline_code() {
            let placeholder = code.contains(['*', '<', '…', '{', ' ', ':']);
            let is_path = DIRECTORIES.iter().any(|directory| code.starts_with(directory));
            let path = code.split('#').next().unwrap_or_default();
            // From the root, or from the directory of the document.
            let bases = [Path::new(ROOT), document.path.parent().unwrap()];
            let exists = || bases.iter().any(|base| base.join(path).exists());
            if is_path && !placeholder && !exists() {
                findings.push(format!("{}: no file {code}", document.name()));
            }
        }
    }
    fail_on(&findings);
}

#[test]
fn make_targets_exist() {
    let makefile = fs::read_to_string(Path::new(ROOT).join("Makefile")).unwrap();
    let targets: BTreeSet<_> =
        makefile.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let mut findings = Vec::new();
    for document in documents() {
        let commands = document.commands.iter().map(String::as_str);
        for command in document.inline_code().chain(commands) {
            let Some(target) = command.strip_prefix("make ") else { continue };
            let target = target.split([' ', '#']).next().unwrap_or_default();
            if !targets.contains(target) {
                findings.push(format!("{}: no target in {command:?}", document.name()));
            }
        }
    }
    fail_on(&findings);
}

#[test]
fn settings_exist() {
    let mut sources = String::new();
    let mut directories: Vec<_> =
        ["crates", "deploy", "tests", "k8s"].map(|name| Path::new(ROOT).join(name)).to_vec();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if path.is_dir() {
                directories.push(path);
            } else if matches!(extension, Some("rs" | "sh" | "py" | "yaml" | "env"))
                && !path.ends_with("documents.rs")
            {
                sources += &fs::read_to_string(path).unwrap();
            }
        }
    }
    let mut findings = Vec::new();
    for document in documents() {
        let text = document.prose.clone() + &document.commands.join("\n");
        let words = text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        let settings: BTreeSet<_> = words
            .filter(|word| ["PASSBOOK_", "OTEL_"].iter().any(|prefix| word.starts_with(prefix)))
            .filter(|word| !word.ends_with('_'))
            .collect();
        for setting in settings {
            // With `_FILE`, each variable has the path of a file with its value.
            let variable = setting.strip_suffix("_FILE").unwrap_or(setting);
            if !sources.contains(variable) {
                findings.push(format!("{}: no setting {setting}", document.name()));
            }
        }
    }
    fail_on(&findings);
}

/// Checks that the subcommands and flags of a command line exist. A document may
/// leave arguments out.
fn check_command_line(line: &str) -> Result<(), String> {
    let mut command = Cli::command();
    command.build();
    let mut command = &command;
    // The runbook's shell function takes `--operator` before the subcommand.
    let words = line.split_whitespace().skip_while(|word| *word == "--operator");
    let words =
        words.take_while(|word| !matches!(*word, "|" | "&&" | ">" | "<" | "#" | "&" | "2>&1"));
    for word in words {
        let word = word.trim_matches(['\'', '"', ')', ';', ',']);
        let argument = |name: &str| {
            command.get_arguments().any(|argument| {
                argument.get_long() == Some(name)
                    || argument.get_short().is_some_and(|short| short.to_string() == name)
            })
        };
        let alternatives: Vec<_> = word.split('|').collect();
        if let Some(subcommand) = command.find_subcommand(word) {
            command = subcommand;
        } else if alternatives.len() > 1
            && alternatives.iter().all(|name| command.find_subcommand(name).is_some())
        {
            return Ok(());
        } else if let Some(flag) = word.strip_prefix("--") {
            let flag = flag.split('=').next().unwrap_or_default();
            if !argument(flag) {
                return Err(format!("`{}` has no flag --{flag}", command.get_name()));
            }
        } else if let Some(flag) = word.strip_prefix('-') {
            if !flag.is_empty() && !argument(flag) {
                return Err(format!("`{}` has no flag -{flag}", command.get_name()));
            }
        } else if command.has_subcommands() && word != "…" {
            return Err(format!("`{}` has no subcommand {word}", command.get_name()));
        }
    }
    Ok(())
}

#[test]
fn command_lines_parse() {
    let (mut findings, mut checked) = (Vec::new(), 0);
    for document in documents() {
        let lines = document.commands.iter().map(String::as_str);
        for code in document.inline_code().chain(lines) {
            let programs = ["passbook ", "target/debug/passbook ", "target/release/passbook "];
            let code = code.strip_prefix("$ ").unwrap_or(code);
            let code = code.strip_prefix("command ").unwrap_or(code);
            let line = programs.iter().find_map(|program| code.strip_prefix(program));
            let Some(line) = line.filter(|_| !code.contains("()")) else { continue };
            checked += 1;
            if let Err(finding) = check_command_line(line) {
                findings.push(format!("{}: {code:?}: {finding}", document.name()));
            }
        }
    }
    fail_on(&findings);
    assert!(checked > 50, "only {checked} command lines were found");
}

#[test]
fn a_command_line_that_does_not_exist_is_found() {
    for wrong in ["dlq list", "dlq ls --sinze 1h", "verify -x", "verfy"] {
        assert!(check_command_line(wrong).is_err(), "{wrong}");
    }
    for right in ["dlq ls --since 1h", "--operator dlq redrive ID --by NAME", "verify -o json"] {
        assert_eq!(check_command_line(right), Ok(()), "{right}");
    }
}
