//! What a process tells on `/metrics`, read as strictly as the format is
//! defined: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::Stack;

/// Names and values of labels, in the order of the names.
pub type Labels = BTreeMap<String, String>;

/// All that a process told at one time.
#[derive(Debug)]
pub struct Scrape {
    types: HashMap<String, String>,
    helped: HashSet<String>,
    samples: Vec<(String, Labels, f64)>,
}

impl Scrape {
    /// Asks the process of this name.
    pub async fn of(stack: &Stack, process: &str) -> Self {
        let file = stack.file();
        let admin = file.processes.iter().find(|it| it.name == process);
        let admin = admin.and_then(|it| it.admin.clone()).unwrap();
        let answer = reqwest::get(format!("{admin}/metrics")).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4");
        Self::read(&answer.text().await.unwrap())
    }

    /// Reads the text; panics at what breaks the format.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let (mut types, mut helped) = (HashMap::new(), HashSet::new());
        let (mut samples, mut seen) = (Vec::new(), HashSet::new());
        assert!(text.ends_with('\n'), "the last line has no end");
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                let before = types.insert(name.to_owned(), kind.to_owned());
                assert!(before.is_none(), "twice: {line}");
                assert!(!samples.iter().any(|it: &(String, _, _)| it.0 == name), "late: {line}");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if !line.starts_with('#') {
                assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "twice: {line}");
                samples.push(sample(line));
            }
        }
        for (name, ..) in &samples {
            let parts = ["_bucket", "_sum", "_count"].iter().find_map(|it| name.strip_suffix(it));
            let histogram = parts.filter(|it| types.get(*it).is_some_and(|it| it == "histogram"));
            let family = histogram.unwrap_or(name);
            assert!(
                types.contains_key(family) && helped.contains(family),
                "{name} is not explained"
            );
        }
        Self { types, helped, samples }
    }

    /// What sort of metric has this name.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<&str> {
        self.types.get(name).map(String::as_str)
    }

    /// The sum of all samples of this name that have these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |its: &Labels| labels.iter().all(|(k, v)| its.get(*k).is_some_and(|it| it == v));
        let values = self.samples.iter().filter(|(its, of, _)| its == name && has(of));
        values.map(|it| it.2).reduce(|sum, value| sum + value)
    }

    /// The names of the labels that samples of this name have.
    #[must_use]
    pub fn label_names(&self, name: &str) -> HashSet<Vec<&str>> {
        let these = self.samples.iter().filter(|it| it.0 == name);
        these.map(|it| it.1.keys().map(String::as_str).collect()).collect()
    }

    /// Every name that is explained.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.helped.iter().map(String::as_str).collect()
    }
}

fn sample(line: &str) -> (String, Labels, f64) {
    let (head, value) = line.rsplit_once(' ').expect(line);
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let (name, labels) = match head.split_once('{') {
        None => (head, ""),
        Some((name, rest)) => (name, rest.strip_suffix('}').expect(line)),
    };
    let legal = |it: &str| !it.is_empty() && it.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    assert!(legal(name), "{line}");
    let mut its = Labels::new();
    // No value of ours has a comma or a quote in it.
    for label in labels.split(',').filter(|it| !it.is_empty()) {
        let (key, value) = label.split_once('=').expect(line);
        let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).expect(line);
        assert!(legal(key) && !value.contains('"'), "{line}");
        assert!(its.insert(key.to_owned(), value.to_owned()).is_none(), "{line}");
    }
    (name.to_owned(), its, value)
}
