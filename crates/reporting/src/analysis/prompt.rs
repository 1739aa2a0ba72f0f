//! What a language model is told, and what is taken from its answer.

use serde::Serialize;

use super::digest::Digest;

/// More figures than this, in bytes of JSON, are not sent.
const MAX_FIGURES: usize = 256 * 1024;
/// Limits of an answer. Control characters do not count.
const MAX_CHARACTERS: usize = 8_000;
const MAX_PARAGRAPHS: usize = 12;

const TASK: &str = "\
You write the closing page of a report about the activity of a ledger of customer accounts. \
The user's message is a JSON object with the figures of the period. Write three to six short \
paragraphs in plain English for a bank's operations staff: volume and trend, the busiest day, the \
mix of deposits and withdrawals, refusals, concentration on the largest accounts, unusual entries, \
time to settlement. Leave out a subject without figures. \
Separate paragraphs by an empty line. Use plain text: no headings, lists, Markdown, links or code. \
Every number must come from the JSON object: as it is there, rounded, or as a sum, difference, \
average or percentage of its figures. Write numbers in digits, with commas between thousands and a \
point before decimals, and the currency code behind an amount. Write a date as 2026-03-29. Do not \
use words such as half, double or dozens. Call an account by its rank: account 1 of KRW. \
Do not guess causes, and do not give advice.";

/// The messages so far.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Conversation {
    messages: Vec<Message>,
}

#[derive(Debug, Serialize)]
struct Message {
    role: &'static str,
    content: String,
}

impl Conversation {
    /// The task and the figures.
    ///
    /// # Errors
    /// If there are too many figures.
    pub(super) fn about(digest: &Digest) -> Result<Self, String> {
        let figures = serde_json::to_string(digest).unwrap_or_default();
        if figures.is_empty() || figures.len() > MAX_FIGURES {
            return Err("was not asked: there are too many figures".to_owned());
        }
        let system = Message { role: "system", content: TASK.to_owned() };
        Ok(Self { messages: vec![system, Message { role: "user", content: figures }] })
    }

    /// Adds an answer and what is wrong with it.
    pub(super) fn object(&mut self, answer: String, reason: &str) {
        let content = format!(
            "Your text {reason}. Write the whole text again. Use only numbers of the JSON object, and \
             the stated derivations."
        );
        self.messages.push(Message { role: "assistant", content: answer });
        self.messages.push(Message { role: "user", content });
    }
}

/// The paragraphs of an answer, as plain text: control characters, and characters
/// that are not seen or turn the direction of text, are removed.
///
/// # Errors
/// What is wrong with the answer, if it is empty or too long.
pub(super) fn paragraphs(answer: &str) -> Result<Vec<String>, &'static str> {
    let mut paragraphs = vec![String::new()];
    for line in answer.replace("\r\n", "\n").replace('\r', "\n").lines() {
        let words: Vec<String> = line
            .split_whitespace()
            .map(|word| word.chars().filter(|&c| is_visible(c)).collect::<String>())
            .filter(|word| !word.is_empty())
            .collect();
        match paragraphs.last_mut() {
            Some(last) if !words.is_empty() => {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(&words.join(" "));
            }
            Some(last) if !last.is_empty() => paragraphs.push(String::new()),
            _ => {}
        }
    }
    paragraphs.retain(|paragraph| !paragraph.is_empty());
    let length: usize = paragraphs.iter().map(|paragraph| paragraph.chars().count()).sum();
    if paragraphs.is_empty() {
        Err("wrote nothing")
    } else if length > MAX_CHARACTERS || paragraphs.len() > MAX_PARAGRAPHS {
        Err("wrote too long a text")
    } else {
        Ok(paragraphs)
    }
}

/// Not a control, format or private-use character.
fn is_visible(character: char) -> bool {
    !character.is_control()
        && !matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_paragraphs_of_plain_text() {
        let answer = "\u{feff}One\r\nline \u{1b}[31mred\u{202e}.\n\n\n  Two\t\u{0}x\u{200b}y \n";
        assert_eq!(paragraphs(answer).unwrap(), ["One line [31mred.", "Two xy"]);
    }

    #[test]
    fn an_empty_or_long_answer_is_rejected() {
        assert!(paragraphs(" \n\u{200b}\n").is_err());
        assert!(paragraphs(&"word ".repeat(MAX_CHARACTERS)).is_err());
        assert!(paragraphs(&"word\n\n".repeat(MAX_PARAGRAPHS + 1)).is_err());
    }
}
