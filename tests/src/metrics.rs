//! The metrics of one process, parsed as strictly as the format is defined:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::Stack;

/// Names and values of labels, ordered by name.
pub type Labels = BTreeMap<String, String>;

#[derive(Debug)]
struct Sample {
    name: String,
    labels: Labels,
    value: f64,
}

/// All metrics of one process at one time.
#[derive(Debug)]
pub struct Scrape {
    types: HashMap<String, String>,
    samples: Vec<Sample>,
}

impl Scrape {
    /// Requests `/metrics` of the process with this name.
    pub async fn of(stack: &Stack, process: &str) -> Self {
        let file = stack.file();
        let found = file.processes.iter().find(|candidate| candidate.name == process);
        let admin = found.and_then(|process| process.admin.clone()).unwrap();
        let response = reqwest::get(format!("{admin}/metrics")).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4");
        Self::parse(&response.text().await.unwrap())
    }

    /// Parses the text; panics on any violation of the format.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (mut types, mut helped) = (HashMap::new(), HashSet::new());
        let (mut samples, mut seen) = (Vec::<Sample>::new(), HashSet::new());
        assert!(text.ends_with('\n'), "the last line has no line feed");
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                let before = types.insert(name.to_owned(), kind.to_owned());
                assert!(before.is_none(), "duplicate: {line}");
                let late = samples.iter().any(|sample| sample.name == name);
                assert!(!late, "after a sample of the metric: {line}");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if !line.starts_with('#') {
                assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "duplicate: {line}");
                samples.push(sample(line));
            }
        }
        for Sample { name, .. } in &samples {
            let suffixes = ["_bucket", "_sum", "_count"];
            let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
            let is_histogram = |base: &&str| types.get(*base).is_some_and(|of| of == "histogram");
            let family = base.filter(is_histogram).unwrap_or(name);
            assert!(
                types.contains_key(family) && helped.contains(family),
                "{name} has no TYPE or no HELP"
            );
        }
        Self { types, samples }
    }

    /// The type of the metric with this name.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<&str> {
        self.types.get(name).map(String::as_str)
    }

    /// The sum of all samples with this name and at least these labels; `None` if there is no such
    /// sample.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let matches = |sample: &&Sample| {
            let has = |(label, value): &(&str, &str)| {
                sample.labels.get(*label).is_some_and(|found| found == value)
            };
            sample.name == name && labels.iter().all(has)
        };
        let values = self.samples.iter().filter(matches).map(|sample| sample.value);
        values.reduce(|sum, value| sum + value)
    }

    /// The label names of the samples with this name.
    #[must_use]
    pub fn label_names(&self, name: &str) -> HashSet<Vec<&str>> {
        let samples = self.samples.iter().filter(|sample| sample.name == name);
        samples.map(|sample| sample.labels.keys().map(String::as_str).collect()).collect()
    }
}

fn sample(line: &str) -> Sample {
    let (head, value) = line.rsplit_once(' ').expect(line);
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let (name, pairs) = match head.split_once('{') {
        None => (head, ""),
        Some((name, rest)) => (name, rest.strip_suffix('}').expect(line)),
    };
    let legal =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    assert!(legal(name), "{line}");
    let mut labels = Labels::new();
    // No label value of Passbook contains a comma or a quote.
    for pair in pairs.split(',').filter(|pair| !pair.is_empty()) {
        let (label, quoted) = pair.split_once('=').expect(line);
        let unquoted = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let value = unquoted.expect(line);
        assert!(legal(label) && !value.contains('"'), "{line}");
        assert!(labels.insert(label.to_owned(), value.to_owned()).is_none(), "{line}");
    }
    Sample { name: name.to_owned(), labels, value }
}
