//! Whether a request is tried again. Pure.
//!
//! 1. What did not happen may be tried again; what may have happened only if the caller said so.
//! 2. Once one try may have happened, no later refusal makes it undone: the outcome stays unknown until a try is done.
//! 3. Tries, time and pauses are bounded.

use super::error::{Cause, ClientError};
use super::options::{OnUnknown, Options};
use crate::base::rng::Rng;
use crate::wire::message::Advice;
use std::time::{Duration, Instant};

/// The tries of one request.
#[derive(Debug)]
pub(super) struct Tries {
    left: u32,
    pause: Duration,
    pause_max: Duration,
    on_unknown: OnUnknown,
    /// For it and all its tries.
    pub(super) deadline: Instant,
    /// Of the first try that may have happened.
    unknown: Option<Cause>,
    rng: Rng,
}

#[derive(Debug)]
pub(super) enum Verdict {
    /// After so long a pause.
    Again(Duration),
    GiveUp(ClientError),
}

impl Tries {
    /// `seed`: of the pauses, so that many clients which failed at once do not come back at once.
    pub(super) fn new(options: &Options, now: Instant, seed: u64) -> Tries {
        Tries {
            left: options.tries_max.max(1),
            pause: options.pause_min,
            pause_max: options.pause_max.max(options.pause_min),
            on_unknown: options.on_unknown,
            deadline: now + options.request_timeout,
            unknown: None,
            rng: Rng::new(seed),
        }
    }

    /// A try has failed.
    pub(super) fn on_failure(&mut self, error: ClientError, now: Instant) -> Verdict {
        let again = match &error {
            ClientError::Unreachable { .. } | ClientError::NotSent(_) => true,
            ClientError::Refused { status, .. } => status.advice() == Advice::Retry,
            ClientError::TooLarge(_) => false,
            ClientError::NoAnswer(_) => true,
            ClientError::OutcomeUnknown(cause) => {
                self.unknown.get_or_insert_with(|| cause.clone());
                self.on_unknown == OnUnknown::Repeat
            }
        };
        self.left -= 1;
        let pause = self.next_pause();
        if again && self.left > 0 && now + pause < self.deadline {
            return Verdict::Again(pause);
        }
        Verdict::GiveUp(match self.unknown.take() {
            Some(cause) => ClientError::OutcomeUnknown(cause),
            None => error,
        })
    }

    fn next_pause(&mut self) -> Duration {
        let half = self.pause / 2;
        let more = self.rng.below(half.as_micros() as u64 + 1);
        self.pause = (self.pause * 2).min(self.pause_max);
        half + Duration::from_micros(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Status;
    use proptest::prelude::*;

    fn refused(status: Status) -> ClientError {
        let message = String::new();
        ClientError::Refused { status, message }
    }

    /// Every way in which a try fails.
    fn failure() -> impl Strategy<Value = ClientError> {
        prop_oneof![
            Just(ClientError::NotSent(Cause::Timeout)),
            Just(ClientError::NoAnswer(Cause::Timeout)),
            Just(ClientError::TooLarge(String::new())),
            Just(ClientError::OutcomeUnknown(Cause::Timeout)),
            prop::sample::select(&Status::ALL[2..18]).prop_map(refused),
        ]
    }

    proptest! {
        /// What is told at the end never contradicts what one of the tries may have done, and nothing that may have
        /// happened is tried again unasked.
        #[test]
        fn nothing_is_guessed_and_everything_ends(
            failures in prop::collection::vec(failure(), 1..12),
            repeats: bool,
            tries_max in 1u32..6,
            request_ms in 0u64..400,
            seed: u64,
        ) {
            let on_unknown = if repeats { OnUnknown::Repeat } else { OnUnknown::Report };
            let request_timeout = Duration::from_millis(request_ms);
            let options = Options { on_unknown, tries_max, request_timeout, ..Options::default() };
            let began = Instant::now();
            let mut now = began;
            let mut tries = Tries::new(&options, now, seed);
            let (mut count, mut unknown) = (0, false);
            for error in failures.into_iter().cycle() {
                count += 1;
                unknown |= error.may_have_happened();
                let final_one = match &error {
                    ClientError::TooLarge(_) => true,
                    ClientError::Refused { status, .. } => status.advice() == Advice::DoNotRetry,
                    ClientError::OutcomeUnknown(_) => !repeats,
                    _ => false,
                };
                match tries.on_failure(error, now) {
                    Verdict::Again(pause) => {
                        prop_assert!(!final_one && count < tries_max && pause <= options.pause_max);
                        now += pause;
                        prop_assert!(now < began + request_timeout);
                    }
                    Verdict::GiveUp(told) => {
                        prop_assert_eq!(told.may_have_happened(), unknown);
                        break;
                    }
                }
            }
            prop_assert!(count <= tries_max);
        }
    }

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let options = Options {
            tries_max: 100,
            request_timeout: Duration::from_secs(3600),
            ..Options::default()
        };
        let now = Instant::now();
        let pauses = |seed| {
            let mut tries = Tries::new(&options, now, seed);
            let pause = |_| match tries.on_failure(refused(Status::Overloaded), now) {
                Verdict::Again(pause) => pause,
                Verdict::GiveUp(error) => panic!("{error}"),
            };
            (0..20).map(pause).collect::<Vec<_>>()
        };
        let (one, other) = (pauses(1), pauses(2));
        assert_ne!(one, other);
        for (nth, pause) in one.iter().enumerate() {
            let whole = Duration::from_millis(10 << nth.min(7)).min(Duration::from_secs(1));
            assert!(whole / 2 <= *pause && *pause <= whole, "{nth}: {pause:?}");
        }
    }
}
