//! Changes inputs at random. It knows that most inputs are text: digits, marks and whole words
//! are inserted, and parts are repeated up to the bounds of the parsers.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::IndexedRandom};

/// Maximum bytes of an input.
const LONGEST: usize = 4096;
/// Maximum changes of an input at once.
const MOST_CHANGES: usize = 4;
/// Maximum repetitions of a part.
const MOST_REPEATED: usize = 1100;
/// Characters that mean something to a parser.
const MARKS: &[u8] = b"0123456789+-.,:;=_*~\"'`\\/|&?#%@!^()[]{}<> \t\r\n\0\x7f\x80\xffaAeETZ";

/// Makes inputs from those of a corpus.
#[derive(Debug)]
pub struct Mutator {
    random: Xoshiro256PlusPlus,
    corpus: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// The same seed makes the same inputs.
    #[must_use]
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>, words: Vec<Vec<u8>>) -> Self {
        Self { random: Xoshiro256PlusPlus::seed_from_u64(seed), corpus, words }
    }

    /// The next input.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = self.corpus.choose(&mut self.random).cloned().unwrap_or_default();
        for _ in 0..self.random.random_range(1..=MOST_CHANGES) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.random.random_range(0..=input.len());
        let end = self.end(at, input.len());
        match self.random.random_range(0..10_u8) {
            0 => drop(input.drain(at..end)),
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.random.random_range(0..8_u8);
                }
            }
            2 => input.insert(at, self.random.random()),
            3 => {
                let mark = *MARKS.choose(&mut self.random).unwrap();
                input.insert(at, mark);
            }
            4 => {
                let mark = *MARKS.choose(&mut self.random).unwrap();
                if let Some(byte) = input.get_mut(at) {
                    *byte = mark;
                }
            }
            5 => self.repeat(input, at, end),
            6 => {
                let word = self.words.choose(&mut self.random).cloned().unwrap_or_default();
                drop(input.splice(at..at, word));
            }
            7 => {
                let word = self.words.choose(&mut self.random).cloned().unwrap_or_default();
                drop(input.splice(at..end, word));
            }
            8 => self.splice(input, at),
            _ => self.digit(input),
        }
    }

    /// The end of a part that starts at a place. Short parts are likelier.
    fn end(&mut self, at: usize, length: usize) -> usize {
        let rest = length - at;
        let most = if self.random.random_bool(0.7) { rest.min(8) } else { rest };
        at + self.random.random_range(0..=most)
    }

    fn repeat(&mut self, input: &mut Vec<u8>, at: usize, end: usize) {
        let most = if self.random.random_bool(0.8) { 4 } else { MOST_REPEATED };
        let times = self.random.random_range(1..=most);
        let part = input[at..end].repeat(times.min(1 + LONGEST / (1 + end - at)));
        drop(input.splice(at..at, part.into_iter().take(LONGEST)));
    }

    /// Replaces the end by that of another input.
    fn splice(&mut self, input: &mut Vec<u8>, at: usize) {
        let other = self.corpus.choose(&mut self.random).cloned().unwrap_or_default();
        let from = self.random.random_range(0..=other.len());
        input.truncate(at);
        input.extend_from_slice(&other[from..]);
    }

    /// Changes a digit, or puts another one beside it.
    fn digit(&mut self, input: &mut Vec<u8>) {
        let places: Vec<_> = (0..input.len()).filter(|at| input[*at].is_ascii_digit()).collect();
        let Some(&at) = places.choose(&mut self.random) else { return };
        let digit = self.random.random_range(b'0'..=b'9');
        if self.random.random() {
            input[at] = digit;
        } else {
            input.insert(at + 1, digit);
        }
    }
}
