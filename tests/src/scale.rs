//! The size of a test: what is promised, or a tenth of it.
//!
//! `make reliability` runs the tests at the size that RELIABILITY.md promises
//! and prints what it measured. `make test` runs the same tests smaller.

/// Whether the tests run at full size.
#[must_use]
pub fn full() -> bool {
    std::env::var_os("PASSBOOK_TESTS_FULL_SIZE").is_some()
}

/// One or the other.
#[must_use]
pub fn size<T>(full_size: T, small: T) -> T {
    if full() { full_size } else { small }
}
