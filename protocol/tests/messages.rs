//! Every error message, printed for a person to read:
//! `cargo test -p keywright-protocol --test messages -- --nocapture`

use keywright_protocol::{DeviceFailure, Error};

#[test]
fn every_refusal_says_who_erred_and_what_to_do() {
    for error in Error::ALL {
        let text = error.to_string();
        println!("{:<24} {text}", error.reason());
        assert!(!text.ends_with('.'), "{text}");
        assert!(text.is_ascii(), "{text}");
        // A sentence and its advice are two clauses; the one without advice says
        // that there is nothing to do.
        assert!(text.contains([';', ':']) || text.contains("nothing to do"), "{text}");
        assert!(!format!("{error:?}").is_empty());
        // A unit can number every one of them.
        assert!(DeviceFailure::from(*error).code() != 0);
    }
}

#[test]
fn messages_and_reasons_tell_causes_apart() {
    let texts: std::collections::BTreeSet<_> = Error::ALL.iter().map(Error::to_string).collect();
    assert_eq!(texts.len(), Error::ALL.len(), "two errors read the same");
}
