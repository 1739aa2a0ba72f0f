//! The size of a test: full, or about a tenth of it.
//!
//! `make reliability` runs the tests at the size promised in the document on
//! reliability, and prints the figures. `make test` runs the same tests smaller.

/// Whether the tests run at full size.
#[must_use]
pub fn full() -> bool {
    std::env::var_os("PASSBOOK_TESTS_FULL_SIZE").is_some()
}

/// The size for this run.
#[must_use]
pub fn size<T>(full_size: T, small: T) -> T {
    if full() { full_size } else { small }
}
