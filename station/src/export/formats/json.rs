//! JSON from and to flat field lists. Written by hand so that no key passes through buffers that nobody wipes; read row by row.

use super::{Field, Misfit, ReadField, Value};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::io::BufRead;
use zeroize::Zeroizing;

/// Writes the fields as one object; a path's dots are levels, and a level whose names are numbers is an array.
pub(super) fn object(out: &mut Vec<u8>, fields: &[Field], depth: usize) {
    let name = |field: &Field| -> String { field.path.split('.').nth(depth).unwrap_or_default().to_owned() };
    let is_array = fields.first().is_some_and(|f| name(f).bytes().all(|b| b.is_ascii_digit()));
    out.push(if is_array { b'[' } else { b'{' });
    let mut at = 0;
    while at < fields.len() {
        let this = name(&fields[at]);
        let end = at + fields[at..].iter().take_while(|f| name(f) == this).count();
        if at > 0 {
            out.push(b',');
        }
        if !is_array {
            string(out, &this);
            out.push(b':');
        }
        let leaf = fields[at].path.split('.').count() == depth + 1;
        if leaf {
            match &fields[at].value {
                Value::Bare(text) => out.extend_from_slice(text.as_bytes()),
                text => string(out, text.as_str()),
            }
        } else {
            object(out, &fields[at..end], depth + 1);
        }
        at = end;
    }
    out.push(if is_array { b']' } else { b'}' });
}

/// A JSON string.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    // Writing into memory can't fail.
    let written = serde_json::to_writer(&mut *out, text);
    debug_assert!(written.is_ok());
}

/// An object's fields, with a dot for every level.
pub(super) fn flatten(value: serde_json::Value) -> Vec<ReadField> {
    let mut fields = Vec::new();
    descend(String::new(), value, &mut fields);
    fields
}

fn descend(path: String, value: serde_json::Value, out: &mut Vec<ReadField>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let mut leaf =
        |text: String, bare| out.push(ReadField { path: path.clone(), value: Zeroizing::new(text), bare });
    match value {
        serde_json::Value::String(text) => leaf(text, false),
        serde_json::Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                descend(below(&name), value, out);
            }
        }
        serde_json::Value::Array(list) if !list.is_empty() => {
            for (i, value) in list.into_iter().enumerate() {
                descend(below(&i.to_string()), value, out);
            }
        }
        other => leaf(other.to_string(), true),
    }
}

/// The fields of a value that we make ourselves and that holds no secret.
pub(super) fn fields_of(prefix: &str, value: serde_json::Value, out: &mut Vec<Field>) {
    let mut read = Vec::new();
    descend(prefix.to_owned(), value, &mut read);
    out.extend(read.iter().map(|f| Field {
        path: f.path.clone().into(),
        value: if f.bare { Value::Bare(f.value.to_string()) } else { Value::Text(f.value.to_string()) },
    }));
}

/// What each value is handed to, with its number from 1.
pub(super) type Take<'a> = dyn FnMut(u64, serde_json::Value) -> Result<(), Misfit> + 'a;

/// One JSON value per line; empty lines do not count.
pub(super) fn lines(source: &mut dyn BufRead, take: &mut Take<'_>) -> Result<(), Misfit> {
    let mut line = Zeroizing::new(Vec::with_capacity(4096));
    let mut row = 0;
    loop {
        line.clear();
        let read = source.read_until(b'\n', &mut line).map_err(|e| Misfit::new(row + 1, e))?;
        if read == 0 {
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        row += 1;
        take(row, serde_json::from_slice(&line).map_err(|e| Misfit::new(row, e))?)?;
    }
}

/// The elements of an array: of the whole file, or of its one field `name`.
pub(super) fn array(
    source: &mut dyn BufRead,
    name: Option<&'static str>,
    take: &mut Take<'_>,
) -> Result<(), Misfit> {
    let mut walk = Walk { name, take, row: 0, misfit: None };
    let mut deserializer = serde_json::Deserializer::from_reader(source);
    let result = Document(&mut walk).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match (walk.misfit.take(), result) {
        (Some(misfit), _) => Err(misfit),
        (None, Err(e)) => Err(Misfit::new(walk.row + 1, e)),
        (None, Ok(())) => Ok(()),
    }
}

struct Walk<'a, 'b> {
    name: Option<&'static str>,
    take: &'a mut Take<'b>,
    row: u64,
    misfit: Option<Misfit>,
}

/// The file: an array, or an object with one field that is an array.
struct Document<'w, 'a, 'b>(&'w mut Walk<'a, 'b>);

impl<'de> DeserializeSeed<'de> for Document<'_, '_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.name.is_some() {
            deserializer.deserialize_map(self)
        } else {
            deserializer.deserialize_seq(self)
        }
    }
}

impl<'de> Visitor<'de> for Document<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.name {
            Some(name) => write!(f, "an object with the field {name}"),
            None => f.write_str("an array"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<serde_json::Value>()? {
            self.0.row += 1;
            if let Err(misfit) = (self.0.take)(self.0.row, value) {
                self.0.misfit = Some(misfit);
                return Err(serde::de::Error::custom("refused"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let name = self.0.name.unwrap_or_default();
        let mut seen = false;
        while let Some(key) = map.next_key::<String>()? {
            if key != name || seen {
                map.next_value::<IgnoredAny>()?;
                return Err(serde::de::Error::custom(format!("the only field is {name}, found {key}")));
            }
            seen = true;
            map.next_value_seed(Elements(&mut *self.0))?;
        }
        if seen { Ok(()) } else { Err(serde::de::Error::custom(format!("{name} is missing"))) }
    }
}

/// The array inside the one field.
struct Elements<'w, 'a, 'b>(&'w mut Walk<'a, 'b>);

impl<'de> DeserializeSeed<'de> for Elements<'_, '_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(Document(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_fields_become_levels_and_come_back() {
        let fields = [
            Field::text("id", "a\"b\u{1}"),
            Field::bare("on", true),
            Field::secret("auth.keys.primary", "p"),
            Field::secret("auth.keys.secondary", "s"),
            Field::text("roles.0.name", "r0"),
            Field::bare("roles.0.n", 1),
            Field::text("roles.1.name", "r1"),
        ];
        let mut out = Vec::new();
        object(&mut out, &fields, 0);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "{\"id\":\"a\\\"b\\u0001\",\"on\":true,\"auth\":{\"keys\":{\"primary\":\"p\",\"secondary\":\"s\"}},\
             \"roles\":[{\"name\":\"r0\",\"n\":1},{\"name\":\"r1\"}]}"
        );
        let read = flatten(serde_json::from_str(&text).unwrap());
        assert_eq!(read.len(), fields.len());
        for field in &fields {
            let found = read.iter().find(|f| f.path == field.path).unwrap();
            assert_eq!(&**found.value, field.value.as_str());
            assert_eq!(found.bare, matches!(field.value, Value::Bare(_)));
        }
    }

    #[test]
    fn arrays_are_read_element_by_element_and_end_where_they_end() {
        let read = |text: &str, name| {
            let mut seen = Vec::new();
            let result = array(&mut text.as_bytes(), name, &mut |row, value| {
                if value == "bad" {
                    return Err(Misfit::new(row, "bad"));
                }
                seen.push(value);
                Ok(())
            });
            result.map(|()| seen.len()).map_err(|m| (m.row, m.why))
        };
        assert_eq!(read("[1, 2]", None), Ok(2));
        assert_eq!(read("{\"c\":[1]}", Some("c")), Ok(1));
        assert_eq!(read("[1,\"bad\",3]", None).unwrap_err(), (2, "bad".into()));
        assert_eq!(read("[1,2", None).unwrap_err().0, 3);
        assert!(read("[1] x", None).is_err());
        assert!(read("{\"c\":[1],\"d\":2}", Some("c")).is_err());
        assert!(read("{}", Some("c")).unwrap_err().1.contains("missing"));
        assert!(read("{\"c\":[]}", None).is_err());
    }
}
