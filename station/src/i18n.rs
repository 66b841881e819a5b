//! The window's words in every language: one Fluent resource a language, looked up by key.
//!
//! `tr!("key")` is a text without arguments (`&'static str`, formatted once per language), `tr!("key", name = value)` one with them
//! (`String`). A text that a language lacks is the English one, and one that English lacks is its key; the tests below make both
//! impossible.
//!
//! Invariants:
//! - The language belongs to the thread: the window sets it for the length of a frame ([`using`]), so two windows of one process
//!   may speak two languages. A thread that never asked speaks English: command line, logs, records and files.
//! - No bidi isolation marks: what is copied off the screen holds the characters that were seen.
//! - Codes, names and numbers that identify something are never grouped or translated.

use crate::failure::Failure;
use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use serde::Deserialize;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::OnceLock;

/// A language of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// English: the language of everything that is not the window.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// Its tag, in station.toml and as the name of its resource file.
    pub const fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-CN",
        }
    }

    /// Its name in itself: who looks for a language can't read the others.
    pub const fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Chinese => "简体中文",
        }
    }

    /// Its resource.
    pub(crate) const fn source(self) -> &'static str {
        match self {
            Self::English => include_str!("../../assets/i18n/en.ftl"),
            Self::Chinese => include_str!("../../assets/i18n/zh-CN.ftl"),
        }
    }

    /// The language of a locale such as `zh_CN.UTF-8`.
    fn of_locale(locale: &str) -> Self {
        match locale.split(['-', '_', '.', '@']).next() {
            Some("zh") => Self::Chinese,
            _ => Self::English,
        }
    }
}

/// What station.toml says about the language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum LanguageChoice {
    /// The one of the system; English if it is none of ours.
    #[default]
    #[serde(rename = "system")]
    System,
    /// English.
    #[serde(rename = "en")]
    English,
    /// Simplified Chinese.
    #[serde(rename = "zh-CN")]
    Chinese,
}

impl LanguageChoice {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::System, Self::English, Self::Chinese];

    /// The word in station.toml.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::English => Language::English.code(),
            Self::Chinese => Language::Chinese.code(),
        }
    }

    /// The language it comes to on this machine.
    pub fn language(self) -> Language {
        match self {
            Self::System => sys_locale::get_locale().map_or(Language::English, |l| Language::of_locale(&l)),
            Self::English => Language::English,
            Self::Chinese => Language::Chinese,
        }
    }
}

/// What station.toml says about how dates are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DateFormat {
    /// As the language does.
    #[default]
    Language,
    /// 2026-11-26 (ISO 8601).
    Iso,
    /// 26.11.2026.
    Dmy,
    /// 11/26/2026.
    Mdy,
}

impl DateFormat {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Language, Self::Iso, Self::Dmy, Self::Mdy];

    /// The word in station.toml.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::Iso => "iso",
            Self::Dmy => "dmy",
            Self::Mdy => "mdy",
        }
    }

    /// Patterns of a day with its year and without; `None`: the language's own.
    const fn patterns(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Language => None,
            Self::Iso => Some(("%Y-%m-%d", "%m-%d")),
            Self::Dmy => Some(("%d.%m.%Y", "%d.%m.")),
            Self::Mdy => Some(("%m/%d/%Y", "%m/%d")),
        }
    }
}

/// What station.toml says about how numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NumberFormat {
    /// As the language does.
    #[default]
    Language,
    /// 12,345.6
    CommaPoint,
    /// 12.345,6
    PointComma,
    /// 12 345,6
    SpaceComma,
}

impl NumberFormat {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Language, Self::CommaPoint, Self::PointComma, Self::SpaceComma];

    /// The word in station.toml.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::CommaPoint => "comma-point",
            Self::PointComma => "point-comma",
            Self::SpaceComma => "space-comma",
        }
    }

    /// What stands between groups and before the fraction.
    fn signs(self) -> (&'static str, &'static str) {
        match self {
            Self::Language => (tr!("format-group"), tr!("format-fraction")),
            Self::CommaPoint => (",", "."),
            Self::PointComma => (".", ","),
            // A space that no line breaks at.
            Self::SpaceComma => ("\u{a0}", ","),
        }
    }
}

/// How dates and numbers are written in the window. Files are written the same everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    /// Dates.
    pub dates: DateFormat,
    /// Numbers.
    pub numbers: NumberFormat,
}

thread_local! {
    static CURRENT: Cell<Language> = const { Cell::new(Language::English) };
    static FORMATS: Cell<Formats> = const { Cell::new(Formats { dates: DateFormat::Language, numbers: NumberFormat::Language }) };
}

/// How this thread writes dates and numbers.
pub fn formats() -> Formats {
    FORMATS.get()
}

/// Dates and numbers are written like this on this thread from now on.
pub fn write_as(formats: Formats) {
    FORMATS.set(formats);
}

/// The language of this thread.
pub fn current() -> Language {
    CURRENT.get()
}

/// Speaks `language` on this thread until what it returns is dropped.
#[must_use = "the language is put back when this is dropped"]
pub fn using(language: Language) -> Using {
    Using(CURRENT.replace(language))
}

/// Puts the thread's language back when dropped.
#[derive(Debug)]
pub struct Using(Language);

impl Drop for Using {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Arguments of a text.
pub type Args<'a> = FluentArgs<'a>;

struct Table {
    bundle: FluentBundle<FluentResource>,
    /// Texts without arguments, formatted.
    plain: HashMap<&'static str, &'static str>,
}

impl Table {
    fn new(language: Language) -> Self {
        // The part that can be read is used even if a line can't; a test reads all of it.
        let resource =
            FluentResource::try_new(language.source().to_owned()).unwrap_or_else(|(resource, _)| resource);
        let mut bundle = FluentBundle::new_concurrent(vec![language.code().parse().unwrap_or_default()]);
        bundle.set_use_isolating(false);
        bundle.add_resource_overriding(resource);
        let mut plain = HashMap::new();
        for key in keys(language.source()) {
            let Some(pattern) = bundle.get_message(key).and_then(|m| m.value()) else { continue };
            let mut errors = Vec::new();
            let text = bundle.format_pattern(pattern, None, &mut errors).into_owned();
            if errors.is_empty() {
                // Leaked once per language and text: the resources live as long as the program.
                plain.insert(key, &*Box::leak(text.into_boxed_str()));
            }
        }
        Self { bundle, plain }
    }
}

/// Keys of the messages in a resource: every line that begins with one.
fn keys(source: &'static str) -> impl Iterator<Item = &'static str> {
    source.lines().filter_map(|line| {
        let (key, _) = line.split_once('=')?;
        let key = key.trim_end();
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(fits)).then_some(key)
    })
}

fn table(language: Language) -> &'static Table {
    static TABLES: [OnceLock<Table>; Language::ALL.len()] = [const { OnceLock::new() }; Language::ALL.len()];
    TABLES[language as usize].get_or_init(|| Table::new(language))
}

/// The text of a key, without arguments, in the language of this thread.
pub fn text(key: &'static str) -> &'static str {
    find(current(), key).or_else(|| find(Language::English, key)).unwrap_or(key)
}

fn find(language: Language, key: &str) -> Option<&'static str> {
    table(language).plain.get(key).copied()
}

/// The text of a key with arguments, in the language of this thread.
pub fn format(key: &'static str, args: &Args<'_>) -> String {
    for language in [current(), Language::English] {
        let bundle = &table(language).bundle;
        if let Some(pattern) = bundle.get_message(key).and_then(|m| m.value()) {
            return bundle.format_pattern(pattern, Some(args), &mut Vec::new()).into_owned();
        }
    }
    key.to_owned()
}

/// A text of the window in the language of this thread: `tr!("key")`, or `tr!("key", name = value)` with arguments. Keys are
/// literals, so that the test can find every one that is used.
macro_rules! tr {
    ($key:literal) => {
        $crate::i18n::text($key)
    };
    ($key:literal, $($name:ident = $value:expr),+ $(,)?) => {{
        let mut args = $crate::i18n::Args::new();
        $(args.set(stringify!($name), $value);)+
        $crate::i18n::format($key, &args)
    }};
}
pub(crate) use tr;

/// A failure as the window says it: sentence and remedy. English is what the failure itself says; another language says the code's
/// sentence and remedy in its own words and keeps the facts, which are the same everywhere.
pub fn failure(failure: &Failure) -> (String, String) {
    let own = || (failure.sentence.clone(), failure.remedy.clone());
    if current() == Language::English {
        return own();
    }
    let number = failure.code.number();
    let (Some(sentence), Some(remedy)) =
        (find(current(), &format!("failure-{number}")), find(current(), &format!("failure-{number}-remedy")))
    else {
        return own();
    };
    // A failure may have a sentence of its own; then that is the fact.
    let facts = match failure.sentence.strip_prefix(failure.code.sentence()) {
        Some(rest) => rest.strip_prefix(": ").unwrap_or(rest),
        None => &failure.sentence,
    };
    let sentence = if facts.is_empty() {
        sentence.to_owned()
    } else {
        tr!("failure-with-facts", sentence = sentence, facts = facts)
    };
    (
        sentence,
        if failure.remedy == failure.code.remedy() { remedy.to_owned() } else { failure.remedy.clone() },
    )
}

/// A count for people: grouped from five digits on.
pub fn number(n: impl Into<u64>) -> String {
    grouped(&n.into().to_string())
}

/// A number with so many digits after its point.
pub fn decimal(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = whole.strip_prefix('-').map_or_else(|| grouped(whole), |w| format!("-{}", grouped(w)));
    if fraction.is_empty() { whole } else { format!("{whole}{}{fraction}", FORMATS.get().numbers.signs().1) }
}

fn grouped(digits: &str) -> String {
    if digits.len() < 5 {
        return digits.to_owned();
    }
    let group = FORMATS.get().numbers.signs().0;
    let mut all = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            all.push_str(group);
        }
        all.push(digit);
    }
    all
}

/// A time as the clock on the wall shows it, to the minute; reports have UTC and seconds.
pub fn date_time(at_ms: i64) -> String {
    match FORMATS.get().dates.patterns() {
        Some((date, _)) => local(at_ms, &format!("{date} {}", tr!("format-time"))),
        None => local(at_ms, tr!("format-date-time")),
    }
}

/// A day.
pub fn date(at_ms: i64) -> String {
    local(at_ms, FORMATS.get().dates.patterns().map_or(tr!("format-date"), |p| p.0))
}

/// A time of day, to the minute.
pub fn time(at_ms: i64) -> String {
    local(at_ms, tr!("format-time"))
}

/// A day of the year.
pub fn day(at_ms: i64) -> String {
    local(at_ms, FORMATS.get().dates.patterns().map_or(tr!("format-day"), |p| p.1))
}

/// When the day of a moment began on the wall, Unix milliseconds.
pub fn midnight(at_ms: i64) -> i64 {
    let day = jiff::Timestamp::from_millisecond(at_ms)
        .and_then(|at| at.to_zoned(jiff::tz::TimeZone::system()).start_of_day());
    day.map_or(at_ms, |day| day.timestamp().as_millisecond())
}

fn local(at_ms: i64, pattern: &str) -> String {
    // Tests see the same clock on every machine.
    let zone = if cfg!(test) { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() };
    jiff::Timestamp::from_millisecond(at_ms)
        .map_or_else(|_| "–".into(), |at| at.to_zoned(zone).strftime(pattern).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureCode;
    use fluent_syntax::ast;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    type Names = BTreeSet<String>;

    fn variables_of(pattern: &ast::Pattern<&str>, all: &mut Names) {
        for element in &pattern.elements {
            if let ast::PatternElement::Placeable { expression } = element {
                in_expression(expression, all);
            }
        }
    }

    fn in_expression(expression: &ast::Expression<&str>, all: &mut Names) {
        match expression {
            ast::Expression::Inline(inline) => in_inline(inline, all),
            ast::Expression::Select { selector, variants } => {
                in_inline(selector, all);
                variants.iter().for_each(|v| variables_of(&v.value, all));
            }
        }
    }

    fn in_inline(inline: &ast::InlineExpression<&str>, all: &mut Names) {
        match inline {
            ast::InlineExpression::VariableReference { id } => {
                all.insert(id.name.to_owned());
            }
            ast::InlineExpression::Placeable { expression } => in_expression(expression, all),
            ast::InlineExpression::StringLiteral { .. } => {}
            other => panic!("only variables, choices and quoted text stand in a resource: {other:?}"),
        }
    }

    /// Keys of a language with the arguments of each.
    fn resource(language: Language) -> BTreeMap<String, Names> {
        let read = FluentResource::try_new(language.source().to_owned());
        let read = read.unwrap_or_else(|(_, errors)| panic!("{}.ftl: {errors:?}", language.code()));
        let mut all = BTreeMap::new();
        for entry in read.entries() {
            match entry {
                ast::Entry::Message(message) => {
                    let mut names = Names::new();
                    let pattern = message.value.as_ref().expect("a message has a text");
                    variables_of(pattern, &mut names);
                    let twice = all.insert(message.id.name.to_owned(), names);
                    assert!(twice.is_none(), "{}.ftl has {} twice", language.code(), message.id.name);
                }
                ast::Entry::Term(_) => panic!("{}.ftl: terms are not used", language.code()),
                _ => {}
            }
        }
        assert_eq!(
            all.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            keys(language.source()).collect::<BTreeSet<_>>(),
            "the quick reader of keys and Fluent's own see the same"
        );
        all
    }

    fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("the sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, all);
            } else if path.extension().is_some_and(|e| e == "rs") {
                all.push(path);
            }
        }
    }

    /// Every `tr!` of a source: its key and the names of its arguments.
    fn uses(source: &str) -> Vec<(String, Names)> {
        let code: String = source.lines().filter(|l| !l.trim_start().starts_with("//")).fold(
            String::new(),
            |mut all, line| {
                all.push_str(line);
                all.push('\n');
                all
            },
        );
        let mut found = Vec::new();
        for (at, _) in code.match_indices("tr!(") {
            // `include_str!` ends in it too.
            if code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
                continue;
            }
            let inside = code[at + 4..].trim_start();
            let Some(key) = inside.strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
                continue;
            };
            let mut names = Names::new();
            let (mut depth, mut quoted, mut escaped, mut word) = (0, false, false, String::new());
            let mut chars = inside[key.len() + 2..].chars().peekable();
            while let Some(c) = chars.next() {
                if quoted {
                    quoted = escaped || c != '"';
                    escaped = !escaped && c == '\\';
                    continue;
                }
                match c {
                    '"' => quoted = true,
                    '(' | '[' | '{' => depth += 1,
                    ')' if depth == 0 => break,
                    ')' | ']' | '}' => depth -= 1,
                    ',' if depth == 0 => word.clear(),
                    '=' if depth == 0 && !matches!(chars.peek(), Some('=' | '>')) => {
                        let name = word.trim();
                        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                        if !name.is_empty() && name.chars().all(fits) {
                            names.insert(name.to_owned());
                        }
                    }
                    other if depth == 0 => word.push(other),
                    _ => {}
                }
            }
            found.push((key.to_owned(), names));
        }
        found
    }

    #[test]
    fn dates_and_numbers_are_written_as_it_was_chosen() {
        let at = 1_790_000_000_000;
        assert_eq!((date_time(at), day(at)), ("2026-09-21 14:13".into(), "09-21".into()));
        assert_eq!((number(1234_u32), number(1_234_567_u32)), ("1234".into(), "1,234,567".into()));
        let cases = [
            (DateFormat::Iso, NumberFormat::CommaPoint, "2026-09-21", "09-21", "12,345.7", "-0.5"),
            (DateFormat::Dmy, NumberFormat::PointComma, "21.09.2026", "21.09.", "12.345,7", "-0,5"),
            (DateFormat::Mdy, NumberFormat::SpaceComma, "09/21/2026", "09/21", "12\u{a0}345,7", "-0,5"),
        ];
        for language in Language::ALL {
            let _spoken = using(language);
            for (dates, numbers, day_of, short, long, negative) in cases {
                write_as(Formats { dates, numbers });
                assert_eq!((date(at), day(at)), (day_of.into(), short.into()));
                assert_eq!(date_time(at), format!("{day_of} 14:13"));
                assert_eq!((decimal(12_345.678, 1), decimal(-0.5, 1)), (long.into(), negative.into()));
                assert_eq!(decimal(7.4, 0), "7");
            }
        }
        for (dates, numbers) in DateFormat::ALL.into_iter().zip(NumberFormat::ALL) {
            let text = format!("dates = {:?}\nnumbers = {:?}", dates.as_str(), numbers.as_str());
            let config =
                crate::config::Config::parse(&format!("[window]\n{text}"), Path::new("station.toml"));
            assert_eq!(config.expect("known words").formats, Formats { dates, numbers });
        }
    }

    #[test]
    fn the_reader_of_uses_finds_keys_and_arguments() {
        let source = "let a = tr!(\"one\"); include_str!(\"file\");\n// tr!(\"comment\")\nb(tr!(\n  \"two\",\n  count = f(x, y == z),\n  name = \"a, b = c\",\n));";
        let names = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Names>();
        let expected = [("one".to_owned(), names(&[])), ("two".to_owned(), names(&["count", "name"]))];
        assert_eq!(uses(source), expected);
    }

    #[test]
    fn every_language_has_every_key_that_is_used_with_its_arguments_and_no_other() {
        let english = resource(Language::English);
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let mut wrong = Vec::new();
        let mut used = BTreeSet::new();
        for path in files {
            let file = path.file_name().expect("a name").to_string_lossy().into_owned();
            for (key, names) in uses(&std::fs::read_to_string(&path).expect("a source")) {
                if file == "i18n.rs" && !key.starts_with("format-") && !key.starts_with("failure-") {
                    // Examples of this file's own documents and tests.
                    continue;
                }
                match english.get(&key) {
                    None => wrong.push(format!("{file}: en.ftl has no {key}")),
                    Some(there) if *there != names => {
                        wrong.push(format!("{file}: {key} is given {names:?}, its text takes {there:?}"));
                    }
                    Some(_) => {}
                }
                used.insert(key);
            }
        }
        for key in english.keys().filter(|key| !used.contains(*key)) {
            wrong.push(format!("en.ftl: nobody uses {key}"));
        }
        // English failures are at home in `failure.rs`.
        let failures: BTreeMap<String, Names> = FailureCode::ALL
            .iter()
            .flat_map(|code| {
                [format!("failure-{}", code.number()), format!("failure-{}-remedy", code.number())]
            })
            .map(|key| (key, Names::new()))
            .collect();
        let expected: BTreeMap<_, _> = english.into_iter().chain(failures).collect();
        for language in Language::ALL.into_iter().filter(|l| *l != Language::English) {
            let there = resource(language);
            let code = language.code();
            for (key, names) in &expected {
                match there.get(key) {
                    None => wrong.push(format!("{code}.ftl: {key} is missing")),
                    Some(other) if other != names => {
                        wrong.push(format!("{code}.ftl: {key} takes {other:?}, in English {names:?}"));
                    }
                    Some(_) => {}
                }
            }
            wrong.extend(
                there
                    .keys()
                    .filter(|k| !expected.contains_key(*k))
                    .map(|k| format!("{code}.ftl: {k} is too much")),
            );
        }
        assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
    }

    #[test]
    fn chinese_is_chinese() {
        let chinese = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
        let source = Language::Chinese.source();
        let all: BTreeSet<_> = keys(source).collect();
        for line in source.lines() {
            let Some((key, text)) = line.split_once(" = ") else { continue };
            if !all.contains(key) || key.starts_with("format-") || text.contains("->") {
                continue;
            }
            // What stands outside the arguments.
            let own: String =
                text.split('{').map(|part| part.split_once('}').map_or(part, |p| p.1)).collect();
            let told = own.chars().any(chinese) || !own.contains(|c: char| c.is_ascii_alphabetic());
            assert!(told, "zh-CN.ftl: {key} is not translated: {text}");
        }
    }

    #[test]
    fn each_thread_has_its_language_and_the_guard_puts_it_back() {
        let before = current();
        {
            let _chinese = using(Language::Chinese);
            assert_eq!(current(), Language::Chinese);
            let other = std::thread::spawn(current).join().expect("a thread");
            assert_eq!(other, Language::English);
            {
                let _english = using(Language::English);
                assert_eq!(current(), Language::English);
            }
            assert_eq!(current(), Language::Chinese);
        }
        assert_eq!(current(), before);
    }

    #[test]
    fn what_is_missing_is_its_key_and_marks_nothing() {
        let _english = using(Language::English);
        assert_eq!(text("there-is-no-such-key"), "there-is-no-such-key");
        assert_eq!(tr!("there-is-no-such-key", name = "x"), "there-is-no-such-key");
        let _chinese = using(Language::Chinese);
        let told = tr!("failure-with-facts", sentence = "A", facts = "B");
        assert_eq!(told, "A：B", "no isolation marks");
    }

    #[test]
    fn a_failure_is_told_by_its_code_and_keeps_its_facts() {
        let plain = Failure::new(FailureCode::NoTarget, "");
        let facts = Failure::new(FailureCode::NoTarget, "probe 1");
        let own = Failure {
            code: FailureCode::NoTarget,
            sentence: "The bench is dark".into(),
            remedy: "Light".into(),
        };
        {
            let _english = using(Language::English);
            for f in [&plain, &facts, &own] {
                assert_eq!(failure(f), (f.sentence.clone(), f.remedy.clone()));
            }
        }
        let _chinese = using(Language::Chinese);
        let (sentence, remedy) = failure(&plain);
        assert!(!sentence.contains("No chip") && !remedy.contains("Seat"), "{sentence} {remedy}");
        assert_eq!(failure(&facts), (format!("{sentence}：probe 1"), remedy));
        assert_eq!(failure(&own), (format!("{sentence}：The bench is dark"), "Light".into()));
    }

    #[test]
    fn counts_and_dates_follow_the_language() {
        for (n, told) in [(0, "0"), (9999, "9999"), (10_000, "10,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(n as u64), told);
        }
        let at = 1_776_000_000_000;
        let _english = using(Language::English);
        let (english, day) = (date_time(at), date(at));
        assert!(english.starts_with("2026-04-12 ") && english.len() == 16, "{english}");
        let _chinese = using(Language::Chinese);
        assert!(date(at).contains('年') && date(at) != day, "{}", date(at));
        assert_eq!(date_time(i64::MAX), "–");
    }

    #[test]
    fn a_locale_names_its_language() {
        for (locale, language) in [
            ("zh_CN.UTF-8", Language::Chinese),
            ("zh-Hans-CN", Language::Chinese),
            ("zh", Language::Chinese),
            ("en-GB", Language::English),
            ("C", Language::English),
            ("de_DE.UTF-8", Language::English),
            ("", Language::English),
        ] {
            assert_eq!(Language::of_locale(locale), language, "{locale}");
        }
        assert_eq!(LanguageChoice::Chinese.language(), Language::Chinese);
    }
}
