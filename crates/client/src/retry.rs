//! Sends a request again until its outcome is known.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;

use crate::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a request is tried. The pause before each further try is random between a step and its
/// double. The steps grow from 0.1 s to 5 s; `Retry-After` is added to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// No further try begins later than this after the first.
    pub patience: Duration,
}

impl Default for Retry {
    /// Two minutes.
    fn default() -> Self {
        Self { patience: Duration::from_secs(120) }
    }
}

impl Retry {
    /// One try only.
    pub const NEVER: Self = Self { patience: Duration::ZERO };

    pub(crate) fn pauses() -> ExponentialBuilder {
        ExponentialBuilder::new()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_jitter()
            .without_max_times()
    }

    /// Tries until the result is final or the time is over. An outcome that was unknown in one try
    /// stays unknown: a later refusal tells nothing about an earlier try. With the result is
    /// whether an earlier try had an unknown outcome.
    pub(crate) async fn run<T, F: Future<Output = Result<T, Error>>>(
        self,
        attempt: impl FnMut() -> F,
    ) -> Result<(T, bool), Error> {
        let begun = Instant::now();
        let mut unknown = false;
        let result = attempt
            .retry(Self::pauses())
            .when(Error::may_retry)
            .adjust(|error, pause| {
                let pause = pause?.saturating_add(error.retry_after().unwrap_or_default());
                let later = begun.elapsed().saturating_add(pause);
                (later <= self.patience).then_some(pause)
            })
            .notify(|error, _| unknown |= error.outcome_is_unknown())
            .await;
        match result {
            Ok(value) => Ok((value, unknown)),
            Err(error) => Err(error.mark_unknown(unknown)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode, header::RETRY_AFTER};

    use super::*;
    use crate::Answer;

    /// The statuses of the tries, and what was seen in the end.
    async fn run(
        retry: Retry,
        answers: &[(u16, bool)],
    ) -> (usize, Result<((), bool), Error>, Duration) {
        let (mut tries, begun) = (0, Instant::now());
        let result = retry
            .run(|| {
                let (status, unknown) = answers[tries];
                tries += 1;
                let mut headers = HeaderMap::new();
                headers.insert(RETRY_AFTER, "1".parse().unwrap());
                let status = StatusCode::from_u16(status).unwrap();
                let answer = Answer { status, headers, body: Bytes::new() };
                let result = answer.success().map(drop);
                async move { result.map_err(|error| error.mark_unknown(unknown)) }
            })
            .await;
        (tries, result, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn tries_go_on_until_an_answer_is_final_with_the_pauses_of_the_answers() {
        let answers = [(503, false), (429, false), (200, false)];
        let (tries, result, time) = run(Retry::default(), &answers).await;
        assert!(tries == 3 && result.is_ok() && time >= Duration::from_millis(2_300), "{time:?}");
        let (tries, result, _) = run(Retry::default(), &[(503, true), (404, false)]).await;
        let error = result.unwrap_err();
        assert!(tries == 2 && !error.may_retry() && error.outcome_is_unknown(), "{error}");
        let (tries, result, _) = run(Retry::default(), &[(422, false)]).await;
        assert!(tries == 1 && !result.unwrap_err().outcome_is_unknown());
    }

    #[tokio::test(start_paused = true)]
    async fn tries_end_with_the_patience() {
        assert_eq!(run(Retry::NEVER, &[(503, false)]).await.0, 1);
        let retry = Retry { patience: Duration::from_secs(30) };
        let (tries, result, time) = run(retry, &[(503, false); 100]).await;
        assert!(result.unwrap_err().may_retry());
        assert!((5..20).contains(&tries) && time <= retry.patience, "{tries} in {time:?}");
    }
}
