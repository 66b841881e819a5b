//! libFuzzer's door to the target `broker`; the body is in `tests/fuzz-targets`.
#![no_main]

use keywright_fuzz_targets::target;
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    let target = target("broker").expect("a target of this name");
    if data.len() > target.max_len {
        return Corpus::Reject;
    }
    (target.run)(data);
    Corpus::Keep
});
