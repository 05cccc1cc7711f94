//! Random inputs that bytes make: a test fills them from a seed and shrinks those that fail, and
//! a fuzzer changes them one by one.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

/// Choices, each made by one byte. After the last byte every choice is the first one.
#[derive(Debug)]
pub struct Choices<'b>(std::slice::Iter<'b, u8>);

impl<'b> Choices<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Self(bytes.iter())
    }

    /// Returns a number below `count`, which is at most 256.
    pub fn below(&mut self, count: usize) -> usize {
        self.0.next().map_or(0, |&byte| usize::from(byte) * count / 256)
    }

    /// Returns true with this probability in percent.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Returns each element with this probability in percent.
    pub fn some<T: Copy>(&mut self, percent: usize, from: &[T]) -> Vec<T> {
        from.iter().copied().filter(|_| self.percent(percent)).collect()
    }

    /// Returns up to `most` elements, at least `least`.
    pub fn list<T>(
        &mut self,
        least: usize,
        most: usize,
        mut make: impl FnMut(&mut Self) -> T,
    ) -> Vec<T> {
        let count = least + self.below(most - least + 1);
        (0..count).map(|_| make(self)).collect()
    }
}

/// Returns the number of an environment variable, if it is set.
pub fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Checks random inputs until they held so many cases. `check` returns the number of cases of an
/// input, or the reason of its failure. `RANDOM_SEED` repeats a run.
pub fn check_many(cases: u64, mut check: impl FnMut(&[u8]) -> Result<u64, String>) {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    let seed = setting("RANDOM_SEED").unwrap_or_else(|| u64::try_from(now()).expect("in range"));
    let (mut state, mut checked) = (seed, 0);
    while checked < cases {
        let words = std::iter::repeat_with(|| next(&mut state).to_le_bytes());
        let bytes: Vec<u8> = words.take(INPUT_BYTES / 8).flatten().collect();
        match outcome(&mut check, &bytes) {
            Ok(count) => checked += count,
            Err(_) => {
                let bytes = shrunk(&mut check, bytes);
                let why = outcome(&mut check, &bytes).expect_err("it failed before");
                panic!("RANDOM_SEED={seed}, after {checked} cases: {why}\nmade of {bytes:?}");
            }
        }
    }
}

const INPUT_BYTES: usize = 1024;

/// Returns the next number of SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn outcome(
    check: &mut impl FnMut(&[u8]) -> Result<u64, String>,
    bytes: &[u8],
) -> Result<u64, String> {
    catch_unwind(AssertUnwindSafe(|| check(bytes))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned())
    })
}

/// Returns an input that fails, too, with fewer and smaller bytes.
fn shrunk(check: &mut impl FnMut(&[u8]) -> Result<u64, String>, mut bytes: Vec<u8>) -> Vec<u8> {
    const ATTEMPTS: usize = 2_000;

    let mut attempts = 0;
    let mut try_it = |bytes: &mut Vec<u8>, smaller: Vec<u8>| {
        attempts += 1;
        let fails = attempts < ATTEMPTS && smaller != *bytes && outcome(check, &smaller).is_err();
        if fails {
            *bytes = smaller;
        }
        fails
    };
    loop {
        let before = bytes.clone();
        let mut size = bytes.len() / 2;
        while size > 0 {
            let mut end = bytes.len();
            while end > 0 {
                let start = end.saturating_sub(size);
                let without = [&bytes[..start], &bytes[end..]].concat();
                try_it(&mut bytes, without);
                end = start;
            }
            size /= 2;
        }
        for at in 0..bytes.len() {
            // The smallest byte that fails, too, is between these.
            let (mut low, mut high) = (0, bytes[at]);
            while low < high {
                let mut smaller = bytes.clone();
                smaller[at] = low + (high - low) / 2;
                match try_it(&mut bytes, smaller) {
                    true => high = bytes[at],
                    false => low += (high - low) / 2 + 1,
                }
            }
        }
        if bytes == before {
            return bytes;
        }
    }
}
