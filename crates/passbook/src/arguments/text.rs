//! Text arguments.

/// Trims a text.
///
/// # Errors
/// When the text is blank.
pub(crate) fn non_blank(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("must not be blank".to_owned()) } else { Ok(text.to_owned()) }
}
