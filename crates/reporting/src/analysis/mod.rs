//! The prose at the end of an activity report.
//!
//! The rules of this program write it, offline. If a language model is configured,
//! the model writes it: it is told the aggregated figures without any id, and each
//! number in its text must be in these figures (`facts` states the rule). If a
//! number is not, the model is asked once more and told which. If that fails too, or
//! the model does not answer, the rules write the text, and a note gives the reason.
//!
//! Without the settings of a model, no request leaves the process.

mod digest;
mod facts;
mod model;
mod number;
mod prompt;
mod rules;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
mod wording;

pub use model::{LanguageModel, LlmConfig};

use report_document::{Activity, Analysis, AnalysisSource};

use self::{digest::Digest, facts::Facts, prompt::Conversation};

/// Requests to the model, beside the retries of each: one, and one after wrong numbers.
const MAX_ANSWERS: u32 = 2;

/// Writes the prose about these figures. It never fails: the rules are the fallback.
///
/// Takes as long as the model does: at most twice the time of all its tries. It can
/// be cancelled at any time by dropping the future.
pub async fn analyse(activity: &Activity, model: Option<&LanguageModel>) -> Analysis {
    let digest = Digest::of(activity);
    let by_rules = |note| Analysis {
        source: AnalysisSource::Rules,
        model: None,
        note,
        paragraphs: rules::paragraphs(&digest),
    };
    let Some(model) = model else { return by_rules(None) };
    match by_model(&digest, model).await {
        Ok(paragraphs) => Analysis {
            source: AnalysisSource::Model,
            model: Some(model.name().to_owned()),
            note: None,
            paragraphs,
        },
        Err(reason) => {
            tracing::warn!(model = model.name(), reason, "the analysis is written by rules");
            let name = model.name();
            by_rules(Some(format!("Written by rules, because the language model {name} {reason}.")))
        }
    }
}

/// The model's paragraphs, or why there are none: `did not answer`.
async fn by_model(digest: &Digest, model: &LanguageModel) -> Result<Vec<String>, String> {
    let facts = Facts::of(digest);
    let mut conversation = Conversation::about(digest)?;
    let mut reason = String::new();
    for _ in 0..MAX_ANSWERS {
        let answer = model.ask(&conversation).await.map_err(|error| error.to_string())?;
        match prompt::paragraphs(&answer) {
            Ok(paragraphs) => {
                let wrong = facts.wrong_numbers(&paragraphs.join("\n"));
                if wrong.is_empty() {
                    return Ok(paragraphs);
                }
                reason = format!("wrote numbers that are not in the figures: {}", shown(&wrong));
            }
            Err(problem) => problem.clone_into(&mut reason),
        }
        conversation.object(answer, &reason);
    }
    Err(reason)
}

/// The first numbers of a list, each cut to a readable length.
fn shown(numbers: &[String]) -> String {
    const MAX_NUMBERS: usize = 10;
    const MAX_LENGTH: usize = 40;
    let shown = numbers.iter().take(MAX_NUMBERS);
    let shown: Vec<String> = shown
        .map(|number| format!("“{}”", number.chars().take(MAX_LENGTH).collect::<String>()))
        .collect();
    shown.join(", ")
}
