//! Search over all units, fast enough to answer every letter that is typed.
//!
//! A query is a handful of conditions that must all hold. Each condition that an index can walk is a *way* to candidates. All of them
//! are walked for a few thousand index entries; the way with the fewest candidates that came to its end holds every hit, its candidates are
//! held against the other conditions by their rows, and the count is exact. If no way ended, what was found so far is the
//! answer, and says that there are more. So no query, however unlucky, looks at more than a few thousand rows.
//!
//! A word that names batches and a code or a state are one way together: the indexes of codes and of states are walked in those batches
//! alone. `BIG K304` is exact however many units BIG has and however many others failed so.
//!
//! - Parts of serials: what the serials of a batch have in common is looked for among the few batches, the rest in `unit_text`, an FTS5
//!   index of every three characters. Beginnings of serials and hardware ids: the unique
//!   indexes. Failure codes, states other than passed, batches, RMA numbers: indexes of their own.

use super::sqlite::{Inner, word};
use super::*;
use crate::label::LabelCode;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use std::collections::{BTreeSet, HashSet};

/// So many hits are counted and can be paged through; beyond them a query wants another letter.
pub const MOST_HITS: usize = 5_000;
/// So many candidates are held against several conditions at once.
const MOST_LOOKS: usize = 2_500;
/// The longest text that is searched for.
const LONGEST: usize = 128;
/// Words from this length on are looked for anywhere in a serial; shorter ones at its beginning.
const SHORTEST: usize = 3;
/// So few candidates are looked at before a way with fewer is looked for.
const FEW: usize = 64;
/// More words than these are a paste of something else.
const MOST_WORDS: usize = 6;
/// What stands before the serial in a label's code.
const LABEL_HEAD: &str = "KW1:";

/// What units are searched for. All of it must hold; what is not said does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitQuery {
    /// Each a part of the serial, or the beginning of a hardware id, of a batch's name or of an RMA number.
    pub words: Vec<String>,
    /// Of this batch.
    pub batch: Option<BatchId>,
    /// Failed with this code in any attempt, by its number.
    pub failure: Option<u16>,
    /// In one of these states; empty: in any.
    pub states: Vec<UnitState>,
    /// Came back from a customer, and is still being looked at.
    pub rma_open: bool,
}

impl UnitQuery {
    /// Reads what a person types or a scanner reads: words, among them codes of failures (`K304`) and words of states
    /// (`quarantined`). A label's square code stands for its serial, also while only its beginning is there.
    pub fn parse(text: &str) -> Self {
        let text: String = text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        let mut query = Self::default();
        if let Ok(code) = text.trim().parse::<LabelCode>() {
            query.words.push(code.serial().to_owned());
            return query;
        }
        for word in text.split_whitespace().take(MOST_WORDS) {
            let lower = word.to_lowercase();
            if let Some(code) = failure_number(word) {
                query.failure = Some(code);
            } else if let Some(state) = UnitState::ALL.into_iter().find(|s| s.as_str() == lower) {
                query.states.push(state);
            } else {
                let headless = word.get(..LABEL_HEAD.len()).filter(|h| h.eq_ignore_ascii_case(LABEL_HEAD));
                let serial = headless.map_or(word, |_| {
                    let rest = &word[LABEL_HEAD.len()..];
                    rest.split_once(':').map_or(rest, |(serial, _)| serial)
                });
                if !serial.is_empty() {
                    query.words.push(serial.to_owned());
                }
            }
        }
        // The longest word narrows most.
        query.words.sort_by_key(|w| std::cmp::Reverse(w.chars().count()));
        query
    }

    /// It asks for nothing in particular.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The number of a failure code that exists: `K304`.
fn failure_number(word: &str) -> Option<u16> {
    let digits = word.strip_prefix(['K', 'k']).filter(|d| d.len() == 3)?;
    let number: u16 = digits.parse().ok()?;
    crate::failure::FailureCode::ALL.iter().map(|c| c.number()).find(|n| *n == number)
}

/// A unit in a list of hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundUnit {
    /// The unit.
    pub id: UnitId,
    /// Serial.
    pub serial: String,
    /// Name of its batch.
    pub batch: String,
    /// Its state.
    pub state: UnitState,
    /// Attempts so far.
    pub attempts: u32,
    /// When its last attempt began; Unix milliseconds.
    pub last_at_ms: Option<i64>,
    /// Number of the failure that its last attempt ended with.
    pub last_failure: Option<u16>,
    /// Number of its open RMA.
    pub rma: Option<String>,
}

/// A page of hits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitsFound {
    /// The page.
    pub units: Vec<FoundUnit>,
    /// How many hits come before it.
    pub from: u32,
    /// Hits that were counted.
    pub count: u32,
    /// There are no others.
    pub exact: bool,
    /// Units that the station knows.
    pub of: u64,
}

/// Units of a batch that failed with a code: a walk of `attempt_by_failure`.
const FAILED_IN: &str = "SELECT unit FROM attempt WHERE failure_code = ?1 AND batch = ?2 AND unit IS NOT NULL ORDER BY unit DESC LIMIT ?3";
/// Units of a batch in a state other than passed: a walk of `unit_not_passed`.
const STANDS_IN: &str =
    "SELECT id FROM unit WHERE state = ?1 AND state <> 'passed' AND batch = ?2 ORDER BY id DESC LIMIT ?3";

/// A walk over candidates: SQL that gives their rows, and its values.
struct Way(&'static str, Vec<Value>);

/// The first text after all that begin with `prefix`.
fn beyond(prefix: &str) -> String {
    format!("{prefix}\u{10FFFF}")
}

/// The hardware ids that begin with these hex digits, from and to.
fn ids(prefix: &str) -> Option<([u8; 12], [u8; 12])> {
    let fits = (1..=24).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_hexdigit());
    let filled = |c: &str| -> Option<[u8; 12]> {
        let mut bytes = [0; 12];
        hex::decode_to_slice(format!("{prefix}{}", c.repeat(24 - prefix.len())), &mut bytes).ok()?;
        Some(bytes)
    };
    fits.then(|| Some((filled("0")?, filled("f")?))).flatten()
}

/// Every batch with the head that its serials share, and the head in capitals. Heads are few, and looked at one by one.
fn heads(c: &Connection, mut each: impl FnMut(i64, &str, &str)) -> rusqlite::Result<()> {
    let mut heads = c.prepare_cached("SELECT batch, head FROM batch_head ORDER BY batch DESC")?;
    let mut rows = heads.query([])?;
    while let Some(r) = rows.next()? {
        let (batch, head): (i64, String) = (r.get(0)?, r.get(1)?);
        each(batch, &head, &head.to_uppercase());
    }
    Ok(())
}

/// What must come behind a head so that a serial holds the word across the head's end, for every place where it may begin.
fn across<'w>(head: &str, word: &'w str) -> impl Iterator<Item = &'w str> {
    head.char_indices().filter_map(move |(at, _)| word.strip_prefix(&head[at..]))
}

/// Ways to units whose serials hold the word in the head that they share with their batch, or across its end.
fn ways_by_head(c: &Connection, word: &str) -> rusqlite::Result<Vec<Way>> {
    let upper = word.to_uppercase();
    let mut ways = Vec::new();
    heads(c, |batch, head, own| {
        if own.contains(&upper) {
            let sql = "SELECT id FROM unit WHERE batch = ?1 AND ?2 ORDER BY id LIMIT ?3";
            ways.push(Way(sql, vec![Value::Integer(batch), Value::Integer(1)]));
            return;
        }
        for rest in across(own, &upper) {
            let begin = format!("{head}{rest}");
            let sql = "SELECT id FROM unit WHERE serial >= ?1 AND serial < ?2 ORDER BY serial LIMIT ?3";
            ways.push(Way(sql, vec![Value::Text(begin.clone()), Value::Text(beyond(&begin))]));
        }
    })?;
    Ok(ways)
}

/// The batches that hold every unit which a word names by its batch: by its name, in the head of their serials, or across its end.
fn batches_of_word(c: &Connection, word: &str) -> rusqlite::Result<BTreeSet<i64>> {
    let upper = word.to_uppercase();
    let short = word.chars().count() < SHORTEST;
    let mut named = c.prepare_cached("SELECT id FROM batch WHERE name >= ?1 AND name < ?2")?;
    let mut all: BTreeSet<i64> =
        named.query_map((word, beyond(word)), |r| r.get(0))?.collect::<rusqlite::Result<_>>()?;
    heads(c, |batch, _, own| {
        let reaches = if short {
            own.starts_with(&upper) || upper.starts_with(own)
        } else {
            own.contains(&upper) || across(own, &upper).next().is_some()
        };
        if reaches {
            all.insert(batch);
        }
    })?;
    Ok(all)
}

/// Ways to units that a word names, whatever their batch: by an RMA's number, the hardware id, or what stands behind the head.
fn ways_of_no_batch(word: &str) -> Vec<Way> {
    let text = |t: &str| Value::Text(t.to_owned());
    let mut ways = vec![Way(
        "SELECT unit FROM rma WHERE number >= ?1 AND number < ?2 ORDER BY number, unit LIMIT ?3",
        vec![text(word), text(&beyond(word))],
    )];
    if let Some((from, to)) = ids(word) {
        let sql = "SELECT id FROM unit WHERE uid >= ?1 AND uid <= ?2 ORDER BY uid LIMIT ?3";
        ways.push(Way(sql, vec![Value::Blob(from.into()), Value::Blob(to.into())]));
    }
    if word.chars().count() >= SHORTEST {
        // One phrase of trigrams: exactly the serials that hold the word behind their head, whatever the case.
        let phrase = format!("\"{}\"", word.replace('"', "\"\""));
        let sql = "SELECT rowid FROM unit_text WHERE unit_text MATCH ?1 AND ?2 LIMIT ?3";
        ways.push(Way(sql, vec![Value::Text(phrase), Value::Integer(1)]));
    }
    ways
}

/// Ways to units that a word names.
fn ways_of_word(c: &Connection, word: &str) -> rusqlite::Result<Vec<Way>> {
    let text = |t: &str| Value::Text(t.to_owned());
    let range = |t: &str| vec![text(t), text(&beyond(t))];
    let begins = "SELECT id FROM unit WHERE serial >= ?1 AND serial < ?2 ORDER BY serial LIMIT ?3";
    let mut ways = vec![Way(begins, range(word))];
    let capitals = word.to_uppercase();
    if capitals != word {
        ways.push(Way(begins, range(&capitals)));
    }
    if word.chars().count() >= SHORTEST {
        ways.extend(ways_by_head(c, word)?);
    }
    ways.extend(ways_of_no_batch(word));
    ways.push(Way(
        "SELECT u.id FROM batch b JOIN unit u ON u.batch = b.id WHERE b.name >= ?1 AND b.name < ?2 ORDER BY b.name, u.id LIMIT ?3",
        range(word),
    ));
    Ok(ways)
}

impl UnitQuery {
    /// Ways to all hits, the likeliest first. Each is a list of walks whose union holds every hit.
    fn ways(&self, c: &Connection) -> rusqlite::Result<Vec<Vec<Way>>> {
        let mut all = Vec::new();
        let batch = || self.batch.map_or(Value::Null, |b| Value::Integer(b.0));
        let by_state = !self.states.is_empty() && !self.states.contains(&UnitState::Passed);
        if self.rma_open {
            let sql =
                "SELECT unit FROM rma WHERE closed_at_ms IS NULL AND ?1 AND ?2 ORDER BY id DESC LIMIT ?3";
            all.push(vec![Way(sql, vec![Value::Integer(1), Value::Integer(1)])]);
        }
        // What a word and a code or a state lead to together. With a batch chosen those two are in it anyway.
        for word in self.words.iter().filter(|_| self.batch.is_none() && (by_state || self.failure.is_some()))
        {
            let batches = batches_of_word(c, word)?;
            if let Some(code) = self.failure {
                let of = |id| Way(FAILED_IN, vec![Value::Integer(code.into()), Value::Integer(id)]);
                all.push(batches.iter().rev().copied().map(of).chain(ways_of_no_batch(word)).collect());
            }
            if by_state {
                let of = |id: i64| {
                    let one = move |s: &UnitState| {
                        Way(STANDS_IN, vec![Value::Text(s.as_str().into()), Value::Integer(id)])
                    };
                    self.states.iter().map(one)
                };
                all.push(batches.iter().rev().copied().flat_map(of).chain(ways_of_no_batch(word)).collect());
            }
        }
        for word in &self.words {
            all.push(ways_of_word(c, word)?);
        }
        if by_state {
            let sql = match self.batch {
                Some(_) => STANDS_IN,
                None => {
                    "SELECT id FROM unit WHERE state = ?1 AND state <> 'passed' AND ?2 IS NULL ORDER BY batch DESC, id DESC LIMIT ?3"
                }
            };
            let one = |s: &UnitState| Way(sql, vec![Value::Text(s.as_str().into()), batch()]);
            all.push(self.states.iter().map(one).collect());
        }
        if let Some(code) = self.failure {
            let sql = match self.batch {
                Some(_) => FAILED_IN,
                None => {
                    "SELECT unit FROM attempt WHERE failure_code = ?1 AND ?2 IS NULL AND unit IS NOT NULL
                     ORDER BY batch DESC, unit DESC LIMIT ?3"
                }
            };
            all.push(vec![Way(sql, vec![Value::Integer(code.into()), batch()])]);
        }
        match self.batch {
            Some(id) => {
                let sql = "SELECT id FROM unit WHERE batch = ?1 AND ?2 ORDER BY id DESC LIMIT ?3";
                all.push(vec![Way(sql, vec![Value::Integer(id.0), Value::Integer(1)])]);
            }
            None if all.is_empty() => {
                let sql = "SELECT id FROM unit WHERE ?1 AND ?2 ORDER BY id DESC LIMIT ?3";
                all.push(vec![Way(sql, vec![Value::Integer(1), Value::Integer(1)])]);
            }
            None => {}
        }
        Ok(all)
    }

    /// A candidate of its only way needs no second look.
    fn is_simple(&self) -> bool {
        let conditions = [
            !self.words.is_empty(),
            self.batch.is_some(),
            self.failure.is_some(),
            !self.states.is_empty(),
            self.rma_open,
        ];
        conditions.iter().filter(|c| **c).count() <= 1
            && self.words.len() <= 1
            && !self.states.contains(&UnitState::Passed)
    }

    /// Rows of all hits in order, and whether there are no others.
    fn hits(&self, c: &Connection) -> rusqlite::Result<(Vec<i64>, bool)> {
        let simple = self.is_simple();
        let most = if simple { MOST_HITS } else { MOST_LOOKS };
        // The way with the fewest candidates among those that end. Only index entries are read here, and they are cheap.
        let mut best: Option<(Vec<i64>, bool)> = None;
        for ways in self.ways(c)? {
            let way = candidates(c, ways, most)?;
            let better = match &best {
                None => true,
                Some((ids, ended)) => way.1 && (!ended || way.0.len() < ids.len()),
            };
            if better {
                best = Some(way);
            }
            if best.as_ref().is_some_and(|(ids, ended)| *ended && ids.len() <= FEW) {
                break;
            }
        }
        let (mut ids, ended) = best.unwrap_or_default();
        if !simple {
            let look = Look::new(self, c)?;
            let mut hits = Vec::new();
            for id in ids {
                if look.fits(c, id)? {
                    hits.push(id);
                }
            }
            ids = hits;
        }
        Ok((ids, ended))
    }
}

/// Rows that these walks lead to, each once, at most so many; and whether that is all of them.
fn candidates(c: &Connection, ways: Vec<Way>, most: usize) -> rusqlite::Result<(Vec<i64>, bool)> {
    let (mut ids, mut seen) = (Vec::new(), HashSet::new());
    let mut left = most;
    for Way(sql, values) in ways {
        let limit = [Value::Integer(left as i64 + 1)];
        let mut statement = c.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(values.iter().chain(&limit)))?;
        while let Some(r) = rows.next()? {
            if left == 0 {
                return Ok((ids, false));
            }
            left -= 1;
            let id = r.get(0)?;
            if seen.insert(id) {
                ids.push(id);
            }
        }
    }
    Ok((ids, true))
}

/// The conditions as they are held against a candidate's row.
struct Look<'q> {
    query: &'q UnitQuery,
    words: Vec<Word>,
}

struct Word {
    lower: String,
    upper: String,
    /// Looked for anywhere in a serial; shorter ones at its beginning only, as by every way.
    anywhere: bool,
    /// Batches whose names begin with it.
    batches: HashSet<i64>,
    /// Units that came back under a number that begins with it.
    rmas: HashSet<i64>,
}

impl<'q> Look<'q> {
    fn new(query: &'q UnitQuery, c: &Connection) -> rusqlite::Result<Self> {
        let rows = |sql: &str, word: &str| -> rusqlite::Result<HashSet<i64>> {
            c.prepare_cached(sql)?.query_map((word, beyond(word)), |r| r.get(0))?.collect()
        };
        let words = query.words.iter().map(|word| {
            Ok(Word {
                lower: word.to_lowercase(),
                upper: word.to_uppercase(),
                anywhere: word.chars().count() >= SHORTEST,
                batches: rows("SELECT id FROM batch WHERE name >= ?1 AND name < ?2", word)?,
                rmas: rows("SELECT unit FROM rma WHERE number >= ?1 AND number < ?2 LIMIT 5000", word)?,
            })
        });
        Ok(Self { query, words: words.collect::<rusqlite::Result<_>>()? })
    }

    fn fits(&self, c: &Connection, id: i64) -> rusqlite::Result<bool> {
        let query = self.query;
        let (serial, uid, state, batch): (String, [u8; 12], UnitState, i64) = c
            .prepare_cached("SELECT serial, uid, state, batch FROM unit WHERE id = ?1")?
            .query_row([id], |r| Ok((r.get(0)?, r.get(1)?, word(r, 2)?, r.get(3)?)))?;
        let stated = query.states.is_empty() || query.states.contains(&state);
        if !stated || query.batch.is_some_and(|b| b.0 != batch) {
            return Ok(false);
        }
        if !self.words.is_empty() {
            let (serial, uid) = (serial.to_uppercase(), hex::encode(uid));
            let named = |w: &Word| {
                let within =
                    if w.anywhere { serial.contains(&w.upper) } else { serial.starts_with(&w.upper) };
                within || uid.starts_with(&w.lower) || w.batches.contains(&batch) || w.rmas.contains(&id)
            };
            if !self.words.iter().all(named) {
                return Ok(false);
            }
        }
        if query.rma_open
            && !c
                .prepare_cached("SELECT 1 FROM rma WHERE unit = ?1 AND closed_at_ms IS NULL")?
                .exists([id])?
        {
            return Ok(false);
        }
        match query.failure {
            // By the unit's few attempts; the index of codes has thousands of one code.
            Some(code) => c
                .prepare_cached("SELECT 1 FROM attempt WHERE unit = ?1 AND +failure_code = ?2 LIMIT 1")?
                .exists((id, code)),
            None => Ok(true),
        }
    }
}

impl Inner {
    pub(super) fn find_units(
        &self,
        query: &UnitQuery,
        from: u32,
        limit: u32,
    ) -> Result<UnitsFound, RecordsError> {
        self.read(|c| {
            let (hits, exact) = query.hits(c)?;
            // Units are never removed, so the highest row counts them.
            let of: Option<i64> = c.prepare_cached("SELECT max(id) FROM unit")?.query_row([], |r| r.get(0))?;
            let mut show = c.prepare_cached(
                "SELECT u.uid, u.serial, b.name, u.state, (SELECT count(*) FROM attempt WHERE unit = u.id), a.started_at_ms,
                        a.failure_code, (SELECT number FROM rma WHERE unit = u.id AND closed_at_ms IS NULL)
                 FROM unit u JOIN batch b ON b.id = u.batch
                 LEFT JOIN attempt a ON a.id = (SELECT max(id) FROM attempt WHERE unit = u.id) WHERE u.id = ?1",
            )?;
            let mut units = Vec::new();
            for id in hits.iter().skip(from as usize).take(limit as usize) {
                let unit = show
                    .query_row([id], |r| {
                        Ok(FoundUnit {
                            id: UnitId(r.get(0)?),
                            serial: r.get(1)?,
                            batch: r.get(2)?,
                            state: word(r, 3)?,
                            attempts: r.get(4)?,
                            last_at_ms: r.get(5)?,
                            last_failure: r.get(6)?,
                            rma: r.get(7)?,
                        })
                    })
                    .optional()?;
                units.extend(unit);
            }
            Ok(UnitsFound { units, from, count: hits.len() as u32, exact, of: of.unwrap_or(0) as u64 })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_word_by_word() {
        let q = UnitQuery::parse("  k304 quarantined B-0001-00 ");
        assert_eq!((q.failure, q.states.as_slice()), (Some(304), &[UnitState::Quarantined][..]));
        assert_eq!(q.words, ["B-0001-00"]);
        // No such code, no such state: parts of serials.
        assert_eq!(UnitQuery::parse("K999 passe").words, ["passe", "K999"]);
        assert!(UnitQuery::parse(" \t\r\n").is_empty());
        let code = LabelCode::new("B1-00001X", &"ab".repeat(32)).unwrap().to_string();
        assert_eq!(UnitQuery::parse(&code).words, ["B1-00001X"]);
        for part in ["KW1:B1-0000", "kw1:B1-0000:ABAB"] {
            assert_eq!(UnitQuery::parse(part).words, ["B1-0000"], "{part}");
        }
        assert!(UnitQuery::parse("KW1:").is_empty());
        assert!(UnitQuery::parse(&"x ".repeat(5000)).words.len() <= MOST_WORDS);
    }

    #[test]
    fn the_beginning_of_a_hardware_id_is_a_range() {
        let (from, to) = ids("abc").unwrap();
        assert_eq!((from[..2].to_vec(), to[..2].to_vec()), (vec![0xab, 0xc0], vec![0xab, 0xcf]));
        assert_eq!((from[11], to[11]), (0, 0xff));
        let whole = "00112233445566778899aabb";
        assert!(ids(whole).is_some_and(|(from, to)| from == to && hex::encode(from) == whole));
        assert!(ids("xyz").is_none() && ids("").is_none() && ids(&"0".repeat(25)).is_none());
    }
}
