//! The committed inputs of each target, and the words that mutations insert.

use std::{
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The words, in the format of libFuzzer's dictionaries.
const DICTIONARY: &str = include_str!("../dictionary.txt");

/// The inputs of a target, by name.
#[must_use]
pub fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(ROOT).join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let input = fs::read(&path).unwrap();
        (path, input)
    };
    paths.into_iter().map(read).collect()
}

/// The words of the dictionary.
#[must_use]
pub fn words() -> Vec<Vec<u8>> {
    let lines = DICTIONARY.lines().map(str::trim);
    let words = lines.filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    words.map(unescape).collect()
}

/// `\\`, `\"` and `\xAB`.
fn unescape(text: &str) -> Vec<u8> {
    let (mut word, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            word.push(byte);
        } else if let Some(hex) = rest.strip_prefix(b"x") {
            word.push(u8::from_str_radix(str::from_utf8(&hex[..2]).unwrap(), 16).unwrap());
            rest = &hex[2..];
        } else {
            word.push(rest[0]);
            rest = &rest[1..];
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_the_dictionary_is_read_as_libfuzzer_reads_it() {
        assert_eq!(unescape(r#"a\"b\\\x0d\xff"#), b"a\"b\\\r\xff");
        assert!(words().len() > 20);
    }
}
