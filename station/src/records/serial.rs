//! Unit serials: by a pattern with a counter and a check character, `<batch>-<counter><check>` unless the batch has its own.
//!
//! The check character is one of the 17 letters `ACDEFHJKMNPRTVWXY`: none looks like a digit or like another one (no B/8, G/6,
//! I/1, L/1, O/0, Q/0, S/5, U/V, Z/2). 17 is prime: with position weights 3^i mod 17 every single wrong digit and
//! every swap of two neighbouring different digits in the counter is found.
//!
//! A pattern is text, digits and those letters, with placeholders: `{n:5}` the counter in five digits, `{c}` the check character,
//! `{batch}` the batch's name, `{yy}` `{ww}` `{mm}` year, ISO week and month in which the batch was made. Dates and batch are filled in
//! once, when the batch is made; batches with the same result share one counter, and two patterns that could ever give the
//! same serial are refused. What is wrong with a pattern is said in the language of the thread that asks. The usual form `<batch>-<counter><check>` has at least five digits and no upper end.

use crate::i18n::tr;
use std::fmt::Write as _;

/// Letters of the check character.
pub const CHECK_ALPHABET: &[u8; 17] = b"ACDEFHJKMNPRTVWXY";

/// Characters of a serial at most: more do not fit on a small label's code.
pub const LONGEST: usize = 32;

/// Why a text is no serial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// It is not `<batch>-<digits><letter>`.
    #[error("{text:?} is no serial at character {position}: expected <batch>-<digits><letter>")]
    Shape {
        /// What was given.
        text: String,
        /// Where it stops being one, counted from 1.
        position: usize,
    },
    /// The last letter does not fit the rest.
    #[error("{text:?} is mistyped: its last character should be {expected}")]
    Check {
        /// What was given.
        text: String,
        /// The letter that fits.
        expected: char,
    },
}

/// Why a text is no pattern of serials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("serial pattern {pattern:?}, character {position}: {what}")]
pub struct PatternError {
    /// What was given.
    pub pattern: String,
    /// Where, counted from 1.
    pub position: usize,
    /// What is wrong there.
    pub what: String,
}

fn check_letter(body: impl DoubleEndedIterator<Item = u8>) -> char {
    let mut weight = 1u32;
    let mut sum = 0u32;
    // From the right, so that the counter's digits have the same weights whatever the batch is called.
    for byte in body.rev() {
        sum = (sum + weight * u32::from(byte)) % 17;
        weight = weight * 3 % 17;
    }
    char::from(CHECK_ALPHABET[sum as usize])
}

/// The serial of the `counter`th unit of a batch without a pattern of its own.
pub fn format(batch: &str, counter: u32) -> String {
    let body = format!("{batch}-{counter:05}");
    let check = check_letter(body.bytes());
    body + check.encode_utf8(&mut [0; 4])
}

/// Takes a serial of the usual form apart into batch and counter, checking its letter.
pub fn parse(text: &str) -> Result<(&str, u32), SerialError> {
    let shape = |position: usize| SerialError::Shape { text: text.into(), position };
    let dash = text.rfind('-').filter(|at| *at > 0).ok_or_else(|| shape(1))?;
    let tail = &text[dash + 1..];
    let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
    let end = dash + 1 + digits;
    if digits < 5 || text.len() != end + 1 || !text.is_char_boundary(end) {
        return Err(shape(end + 1));
    }
    let counter = tail[..digits].parse().map_err(|_| shape(dash + 2))?;
    let expected = check_letter(text[..end].bytes());
    if text.ends_with(expected) {
        Ok((&text[..dash], counter))
    } else {
        Err(SerialError::Check { text: text.into(), expected })
    }
}

/// The day on which a batch is made, as patterns write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    /// Calendar year.
    pub year: i16,
    /// Month, 1 to 12.
    pub month: i8,
    /// Year of the ISO week.
    pub week_year: i16,
    /// ISO week, 1 to 53.
    pub week: i8,
}

impl Day {
    /// The day of this moment (Unix milliseconds), UTC.
    pub fn at(ms: i64) -> Self {
        let at = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        let week = date.iso_week_date();
        Self { year: date.year(), month: date.month(), week_year: week.year(), week: week.week() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Digits at least and at most.
    Counter(usize, usize),
    Check,
}

/// A pattern with dates and batch filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

/// One place of a serial, as far as its pattern says.
#[derive(Clone, Copy)]
enum Place {
    Fixed(u8),
    Digit,
    Letter,
}

impl Place {
    fn may_be(self, byte: u8) -> bool {
        match self {
            Self::Fixed(b) => b == byte,
            Self::Digit => byte.is_ascii_digit(),
            Self::Letter => CHECK_ALPHABET.contains(&byte),
        }
    }

    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Fixed(b), place) | (place, Self::Fixed(b)) => place.may_be(b),
            (Self::Digit, Self::Digit) | (Self::Letter, Self::Letter) => true,
            _ => false,
        }
    }
}

impl Pattern {
    /// What a batch without a pattern has.
    pub fn usual(batch: &str) -> Self {
        Self(vec![Part::Text(format!("{batch}-")), Part::Counter(5, 10), Part::Check])
    }

    /// Reads a pattern that somebody entered and fills in batch and dates.
    ///
    /// # Errors
    /// The place, and what may stand there.
    pub fn parse(text: &str, batch: &str, day: Day) -> Result<Self, PatternError> {
        Self::parse_with(text, Some((batch, day)))
    }

    /// Reads back what a pattern displays: all is filled in, and batches may have names with other letters.
    ///
    /// # Errors
    /// As [`Pattern::parse`].
    pub fn read(text: &str) -> Result<Self, PatternError> {
        Self::parse_with(text, None)
    }

    fn parse_with(text: &str, fill: Option<(&str, Day)>) -> Result<Self, PatternError> {
        let error = |position: usize, what: String| PatternError { pattern: text.into(), position, what };
        let mut parts: Vec<Part> = Vec::new();
        let (mut counters, mut checks, mut iso) = (0, 0, false);
        if text.contains("{ww}") {
            iso = true;
        }
        let add = |parts: &mut Vec<Part>, more: &str| match parts.last_mut() {
            Some(Part::Text(text)) => text.push_str(more),
            _ => parts.push(Part::Text(more.into())),
        };
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        while at < chars.len() {
            let c = chars[at];
            if c != '{' {
                let fits = (fill.is_none() && !"{}".contains(c))
                    || c.is_ascii_digit()
                    || "-.".contains(c)
                    || (c.is_ascii() && CHECK_ALPHABET.contains(&(c as u8)));
                if !fits {
                    let why = if c.is_ascii_uppercase() {
                        tr!("pattern-look-alike", letter = c.to_string(), letters = alphabet())
                    } else if c == '}' {
                        tr!("pattern-no-opening").into()
                    } else {
                        tr!("pattern-no-place", sign = format!("{c:?}"), letters = alphabet())
                    };
                    return Err(error(at + 1, why));
                }
                add(&mut parts, c.encode_utf8(&mut [0; 4]));
                at += 1;
                continue;
            }
            let Some(len) = chars[at..].iter().position(|c| *c == '}') else {
                return Err(error(at + 1, tr!("pattern-no-closing").into()));
            };
            let name: String = chars[at + 1..at + len].iter().collect();
            match (name.as_str(), fill) {
                ("c", _) => {
                    checks += 1;
                    if checks > 1 {
                        return Err(error(at + 1, tr!("pattern-second-check").into()));
                    }
                    parts.push(Part::Check);
                }
                ("batch", Some((batch, _))) => add(&mut parts, batch),
                ("yy", Some((_, day))) => {
                    let year = if iso { day.week_year } else { day.year };
                    add(&mut parts, &format!("{:02}", year.rem_euclid(100)));
                }
                ("ww", Some((_, day))) => add(&mut parts, &format!("{:02}", day.week)),
                ("mm", Some((_, day))) => add(&mut parts, &format!("{:02}", day.month)),
                _ => {
                    let width = name.strip_prefix("n:").and_then(|w| w.parse::<usize>().ok());
                    match width {
                        Some(width @ 3..=9) => {
                            counters += 1;
                            if counters > 1 {
                                return Err(error(at + 1, tr!("pattern-second-counter").into()));
                            }
                            parts.push(Part::Counter(width, width));
                        }
                        _ if name.starts_with('n') => {
                            return Err(error(at + 1, tr!("pattern-counter-size").into()));
                        }
                        _ => {
                            return Err(error(at + 1, tr!("pattern-unknown", name = name.as_str())));
                        }
                    }
                }
            }
            at += len + 1;
        }
        let end = chars.len() + 1;
        if counters == 0 {
            return Err(error(end, tr!("pattern-no-counter").into()));
        }
        if checks == 0 {
            return Err(error(end, tr!("pattern-no-check").into()));
        }
        let pattern = Self(parts);
        let long = pattern.places(pattern.widths().1).len();
        if long > LONGEST && fill.is_some() {
            return Err(error(
                end,
                tr!("pattern-long", long = long.to_string(), longest = LONGEST.to_string()),
            ));
        }
        Ok(pattern)
    }

    fn widths(&self) -> (usize, usize) {
        self.0
            .iter()
            .find_map(|p| if let Part::Counter(a, b) = p { Some((*a, *b)) } else { None })
            .unwrap_or((0, 0))
    }

    /// The highest counter it has room for.
    pub fn room(&self) -> u32 {
        let digits = self.widths().1;
        10u64.pow(digits.min(10) as u32).saturating_sub(1).min(u64::from(u32::MAX)) as u32
    }

    /// The serial with this counter; `None` if it has no room for it.
    pub fn serial(&self, counter: u32) -> Option<String> {
        if counter > self.room() {
            return None;
        }
        let mut text = String::new();
        let mut check_at = 0;
        for part in &self.0 {
            match part {
                Part::Text(more) => text.push_str(more),
                Part::Counter(width, _) => write!(text, "{counter:0width$}").ok()?,
                Part::Check => check_at = text.len(),
            }
        }
        let check = check_letter(text.bytes());
        text.insert(check_at, check);
        Some(text)
    }

    /// Whether a serial could be of this pattern, its check character right.
    pub fn fits(&self, serial: &str) -> bool {
        let (least, most) = self.widths();
        (least..=most).any(|width| {
            let places = self.places(width);
            let Some(at) = places.iter().position(|p| matches!(p, Place::Letter)) else { return false };
            places.len() == serial.len() && places.iter().zip(serial.bytes()).all(|(p, b)| p.may_be(b)) && {
                let body = serial.bytes().enumerate().filter(|(i, _)| *i != at).map(|(_, b)| b);
                let body: Vec<u8> = body.collect();
                check_letter(body.into_iter()) as u32 == u32::from(serial.as_bytes()[at])
            }
        })
    }

    /// A serial of this pattern whose letters came back in another case, as the pattern writes them.
    pub fn recased(&self, serial: &str) -> Option<String> {
        let (least, most) = self.widths();
        (least..=most).find_map(|width| {
            let places = self.places(width);
            if places.len() != serial.len() {
                return None;
            }
            let written = places.iter().zip(serial.bytes()).map(|(place, byte)| match place {
                Place::Fixed(own) => own.eq_ignore_ascii_case(&byte).then_some(*own),
                Place::Digit | Place::Letter => {
                    Some(byte.to_ascii_uppercase()).filter(|byte| place.may_be(*byte))
                }
            });
            String::from_utf8(written.collect::<Option<Vec<u8>>>()?).ok()
        })
    }

    fn places(&self, digits: usize) -> Vec<Place> {
        let mut places = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => places.extend(text.bytes().map(Place::Fixed)),
                Part::Counter(..) => places.extend(std::iter::repeat_n(Place::Digit, digits)),
                Part::Check => places.push(Place::Letter),
            }
        }
        places
    }

    /// Whether the two could ever give the same serial.
    pub fn meets(&self, other: &Self) -> bool {
        let ((a, b), (c, d)) = (self.widths(), other.widths());
        (a..=b).any(|mine| {
            let mine = self.places(mine);
            (c..=d).any(|theirs| {
                let theirs = other.places(theirs);
                mine.len() == theirs.len() && mine.iter().zip(&theirs).all(|(x, y)| x.meets(*y))
            })
        })
    }
}

fn alphabet() -> &'static str {
    std::str::from_utf8(CHECK_ALPHABET).unwrap_or_default()
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Counter(width, _) => write!(f, "{{n:{width}}}")?,
                Part::Check => f.write_str("{c}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_round_trip_and_find_typing_errors() {
        for (batch, counter) in [("B7", 1), ("B7", 99_999), ("2025-W31-a", 100_000), ("x", u32::MAX)] {
            let serial = format(batch, counter);
            assert_eq!(parse(&serial), Ok((batch, counter)), "{serial}");
            let at = serial.rfind('-').unwrap() + 1;
            for i in at..serial.len() - 1 {
                for digit in b'0'..=b'9' {
                    let mut wrong = serial.clone().into_bytes();
                    if wrong[i] != digit {
                        wrong[i] = digit;
                        assert!(parse(std::str::from_utf8(&wrong).unwrap()).is_err());
                    }
                }
                if i + 1 < serial.len() - 1 {
                    let mut swapped = serial.clone().into_bytes();
                    swapped.swap(i, i + 1);
                    if swapped != serial.as_bytes() {
                        assert!(parse(std::str::from_utf8(&swapped).unwrap()).is_err());
                    }
                }
            }
        }
    }

    #[test]
    fn errors_name_the_place() {
        assert_eq!(parse("nodash"), Err(SerialError::Shape { text: "nodash".into(), position: 1 }));
        assert_eq!(parse("B7-12"), Err(SerialError::Shape { text: "B7-12".into(), position: 6 }));
        assert_eq!(parse("B7-0000é"), Err(SerialError::Shape { text: "B7-0000é".into(), position: 8 }));
        assert!(parse("B7-00001é").is_err());
        let good = format("B7", 1);
        let wrong = format!("{}?", &good[..good.len() - 1]);
        assert!(
            matches!(parse(&wrong), Err(SerialError::Check { expected, .. }) if good.ends_with(expected))
        );
    }

    #[test]
    fn check_letters_have_no_look_alikes() {
        for c in "0O1IL2Z5S6G8BQU".chars() {
            assert!(!CHECK_ALPHABET.contains(&(c as u8)));
        }
    }

    const DAY: Day = Day { year: 2026, month: 11, week_year: 2026, week: 48 };

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, "B-7", DAY).unwrap()
    }

    #[test]
    fn patterns_count_check_and_know_their_own() {
        let p = pattern("KW-{yy}{ww}-{n:5}-{c}");
        assert_eq!(p.to_string(), "KW-2648-{n:5}-{c}");
        for pattern in [&p, &pattern("{batch}-{n:6}{c}")] {
            assert_eq!(Pattern::read(&pattern.to_string()).as_ref(), Ok(pattern), "filled in once");
        }
        let serial = p.serial(42).unwrap();
        assert!(serial.starts_with("KW-2648-00042-"), "{serial}");
        assert!(p.fits(&serial));
        for at in 8..13 {
            let mut wrong = serial.clone().into_bytes();
            for digit in b'0'..=b'9' {
                if digit != serial.as_bytes()[at] {
                    wrong[at] = digit;
                    assert!(!p.fits(std::str::from_utf8(&wrong).unwrap()), "one wrong digit is found");
                }
            }
        }
        assert_eq!((p.room(), p.serial(99_999).is_some(), p.serial(100_000)), (99_999, true, None));
        let (small, upper) = (Pattern::usual("pilot-b"), format("pilot-b", 42).to_uppercase());
        for text in [&upper, &upper.to_lowercase()] {
            assert_eq!(small.recased(text), Some(format("pilot-b", 42)), "{text}");
        }
        assert_eq!((small.recased("PILOT-C-00042A"), small.recased("PILOT-B-0004XA")), (None, None));
        assert_eq!(pattern("{batch}.{mm}{c}{n:3}").serial(7).unwrap().len(), "B-7.11K007".len());
        let usual = Pattern::usual("B-7");
        for counter in [1, 99_999, 100_000, u32::MAX] {
            let serial = format("B-7", counter);
            assert_eq!(usual.serial(counter).as_ref(), Some(&serial));
            assert!(usual.fits(&serial), "{serial}");
        }
    }

    #[test]
    fn patterns_that_could_give_one_serial_twice_meet() {
        let meet = |a: &str, b: &str| pattern(a).meets(&pattern(b));
        assert!(meet("KW-{n:5}-{c}", "KW-{n:5}-{c}"));
        assert!(meet("KW-1{n:4}-{c}", "KW-{n:5}-{c}"), "a counter reaches into the other");
        assert!(!meet("KW-A{n:4}-{c}", "KW-{n:5}-{c}"));
        assert!(!meet("KW-{n:4}-{c}", "KW-{n:5}-{c}"));
        assert!(!meet("KW-{ww}-{n:4}{c}", "KW-47-{n:4}{c}"));
        assert!(meet("H{n:4}{c}", "{c}{n:4}A"), "a letter may be the other's check character");
        // Batch "B" in its hundred-thousands, and batch "B-1".
        assert!(!Pattern::usual("B").meets(&Pattern::usual("B-1")));
        assert!(Pattern::parse("B-7-{n:6}{c}", "x", DAY).is_err(), "B looks like 8");
        let named = Pattern::parse("{batch}-{n:6}{c}", "B-7", DAY).unwrap();
        assert!(named.meets(&Pattern::usual("B-7")));
    }

    #[test]
    fn pattern_errors_name_the_place_and_what_may_stand_there() {
        for (text, position, what) in [
            ("", 1, "no counter"),
            ("KW-{n:5}", 9, "no check character"),
            ("KW-{c}", 7, "no counter"),
            ("kw-{n:5}{c}", 1, "does not stand in serials"),
            ("KO-{n:5}{c}", 2, "looks like a digit"),
            ("KW-{n:5}{c}{c}", 12, "second {c}"),
            ("KW-{n:5}{n:4}{c}", 9, "second counter"),
            ("KW-{n:2}{c}", 4, "{n:3} to {n:9}"),
            ("KW-{n}{c}", 4, "{n:3} to {n:9}"),
            ("KW-{x}{c}", 4, "{x} is not known"),
            ("KW-{n:5", 4, "without its }"),
            ("KW-}{n:5}{c}", 4, "without its {"),
            ("KW é{n:5}{c}", 3, "does not stand"),
            ("KWKWKWKWKWKWKWKWKWKWKWKWKWKW{n:5}{c}", 37, "34 characters"),
        ] {
            let error = Pattern::parse(text, "B", DAY).unwrap_err();
            assert_eq!(error.position, position, "{error}");
            assert!(error.what.contains(what), "{error}");
        }
    }

    #[test]
    fn weeks_belong_to_their_own_year() {
        // 1 January 2027 is a Friday of week 53 of 2026.
        let day = Day::at(1_798_761_600_000);
        assert_eq!(day, Day { year: 2027, month: 1, week_year: 2026, week: 53 });
        assert_eq!(Pattern::parse("{yy}{ww}-{n:3}{c}", "B", day).unwrap().to_string(), "2653-{n:3}{c}");
        assert_eq!(Pattern::parse("{yy}{mm}-{n:3}{c}", "B", day).unwrap().to_string(), "2701-{n:3}{c}");
    }
}
