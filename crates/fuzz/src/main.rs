//! A target under libFuzzer. `deploy/fuzz.sh` builds it with the coverage of branches and
//! comparisons that libFuzzer needs.
#![no_main]

use std::sync::LazyLock;

use fuzz::Target;

/// The target that the environment names.
static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("PASSBOOK_FUZZ_TARGET").unwrap_or_default();
    Target::find(&name).unwrap_or_else(|| {
        let known: Vec<_> = Target::all().iter().map(|target| target.name).collect();
        eprintln!("the target {name:?} is unknown; known are {}", known.join(", "));
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.run)(input));
