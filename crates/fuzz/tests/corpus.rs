//! Runs each target on its corpus, and on random mutations of it: for two seconds, or for
//! `PASSBOOK_FUZZ_SECONDS`. Each run has other mutations; `PASSBOOK_FUZZ_SEED` repeats those of an
//! earlier one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    env, fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fuzz::{Target, corpus, mutator::Mutator};

/// The committed corpus stays small: bytes of all inputs.
const LARGEST_CORPUS: usize = 1024 * 1024;
/// Maximum inputs of a target.
const MOST_INPUTS: usize = 100;

fn run(name: &str) {
    let target = Target::find(name).expect("a target of this name");
    let inputs = corpus::inputs(name);
    for (path, input) in &inputs {
        check(target, input, || format!("the input {}", path.display()));
    }
    let inputs = inputs.into_iter().map(|(_, input)| input).collect();
    let seed = setting("PASSBOOK_FUZZ_SEED").unwrap_or_else(rand::random);
    let limit = Duration::from_secs(setting("PASSBOOK_FUZZ_SECONDS").unwrap_or(2));
    let mut mutator = Mutator::new(seed, inputs, corpus::words());
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < limit {
        let input = mutator.input();
        check(target, &input, || {
            let path = keep(name, &input);
            format!(
                "input {count} of `PASSBOOK_FUZZ_SEED={seed} cargo test -p fuzz --test corpus \
                 {name}`, now in {}",
                path.display()
            )
        });
        count += 1;
    }
    println!("{name}: {count} inputs, PASSBOOK_FUZZ_SEED={seed}");
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect(name))
}

fn check(target: Target, input: &[u8], source: impl FnOnce() -> String) {
    if catch_unwind(|| (target.run)(input)).is_err() {
        panic!("{} fails with {}: {}", target.name, source(), input.escape_ascii());
    }
}

/// Writes a failing input to a file, to run it again or to add it to the corpus.
fn keep(name: &str, input: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let path = folder.join(format!("{name}-{}", uuid::Uuid::now_v7()));
    fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)).unwrap();
    path
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    addresses amounts api_keys audit_queries batches bundles
    commands cursors dead_letter_pages dead_letters entity_tags event_ids file_signatures heads_files
    idempotency_keys key_sets labels movements names periods preferences proxy_requests
    proxy_responses ranges records_queries render_requests report_requests request_heads results
    retry_after server_sent_events times tokens traceparents webhook_changes webhook_endpoints
    webhook_signatures webhook_urls
}

#[test]
fn every_target_has_a_test_and_a_small_corpus() {
    let targets: BTreeSet<_> = Target::all().iter().map(|target| target.name).collect();
    assert_eq!(targets, NAMES.iter().copied().collect());
    let folders = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).unwrap();
    let folders: BTreeSet<_> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders, targets.iter().map(|name| (*name).to_owned()).collect());
    let mut size = 0;
    for name in targets {
        let inputs = corpus::inputs(name);
        assert!((1..=MOST_INPUTS).contains(&inputs.len()), "{name}: {}", inputs.len());
        size += inputs.iter().map(|(_, input)| input.len()).sum::<usize>();
    }
    assert!(size <= LARGEST_CORPUS, "{size}");
}
