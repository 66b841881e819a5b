//! A label's template: text with `$placeholders`, checked whole when it is loaded.
//!
//! ZPL (a text with `^XA`) is looked at more closely: a value may stand only in field data (`^FD`, `^FV`) of a field that has `^FH`, so
//! that `^`, `~` and `_` in a value are written as `_5E`, `_7E`, `_5F` and can't become commands.

use std::fmt::Write as _;

/// Why a template can't be used. Line and column count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct TemplateError {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
    /// What is wrong there, and what may stand there.
    pub what: String,
}

macro_rules! placeholders {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types)]
        enum Name { $($name),* }

        impl Name {
            const ALL: &'static [(&'static str, Self)] = &[$((stringify!($name), Self::$name)),*];
        }

        /// What placeholders stand for.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Values { $($(#[$doc])* pub $name: String),* }

        impl Values {
            fn get(&self, name: Name) -> &str {
                match name { $(Name::$name => &self.$name),* }
            }
        }
    };
}

placeholders! {
    /// The unit's serial.
    serial,
    /// Its hardware id, 24 hex digits.
    uid,
    /// Its batch.
    batch,
    /// Its product order.
    po,
    /// Model.
    model,
    /// Hardware revision.
    hw_revision,
    /// Part number.
    part_number,
    /// Region.
    region,
    /// First 16 hex digits of the region anchor's fingerprint.
    anchor,
    /// Who prints it.
    operator,
    /// The day, `2026-11-26`, by the station's clock.
    date,
    /// The time, `14:05`.
    time,
    /// The text of the square code.
    code,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Name),
}

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    zpl: bool,
}

/// Where ZPL stands while it is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    /// Between fields.
    Outside { hex: bool },
    /// In a field's data.
    Data { hex: bool },
}

impl Template {
    /// Reads a template: `$name`, `${name}`, and `$$` for one `$`.
    ///
    /// # Errors
    /// The first place that is wrong: an unknown placeholder, a `$` alone, in ZPL a value outside of field data or without `^FH`; or
    /// that no `$code` or `$serial` stands in it at all.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let zpl = text.to_ascii_uppercase().contains("^XA");
        let error = |at: usize, what: String| {
            let before = &text[..at];
            let start = before.rfind('\n').map_or(0, |n| n + 1);
            TemplateError {
                line: before.matches('\n').count() + 1,
                column: before[start..].chars().count() + 1,
                what,
            }
        };
        let mut pieces = vec![Piece::Text(String::new())];
        let mut field = Field::Outside { hex: false };
        let mut at = 0;
        let put = |pieces: &mut Vec<Piece>, c: char| match pieces.last_mut() {
            Some(Piece::Text(text)) => text.push(c),
            _ => pieces.push(Piece::Text(c.into())),
        };
        while let Some(c) = text[at..].chars().next() {
            let rest = &text[at..];
            if zpl && c == '^' {
                let command: String = rest.chars().skip(1).take(2).collect::<String>().to_ascii_uppercase();
                field = match (command.as_str(), field) {
                    ("FH", _) => {
                        let sign = rest.chars().nth(3);
                        if sign.is_some_and(|s| s != '_' && s != '^' && !s.is_whitespace()) {
                            return Err(error(
                                at,
                                "^FH with another sign than _; values are escaped with _".into(),
                            ));
                        }
                        Field::Outside { hex: true }
                    }
                    ("FD" | "FV", Field::Outside { hex }) => Field::Data { hex },
                    ("FS" | "XZ" | "XA", _) => Field::Outside { hex: false },
                    // Any other command ends a field's data, and belongs to the field that began.
                    (_, Field::Data { .. }) => Field::Outside { hex: false },
                    (_, outside) => outside,
                };
            }
            if c != '$' {
                put(&mut pieces, c);
                at += c.len_utf8();
                continue;
            }
            if rest.starts_with("$$") {
                put(&mut pieces, '$');
                at += 2;
                continue;
            }
            let braced = rest.starts_with("${");
            let begin = if braced { 2 } else { 1 };
            let len = rest[begin..]
                .bytes()
                .take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_')
                .count();
            let name = &rest[begin..begin + len];
            if braced && !rest[begin + len..].starts_with('}') {
                return Err(error(at, "a ${ without its }".into()));
            }
            let Some((_, value)) = Name::ALL.iter().find(|(known, _)| *known == name) else {
                let mut what = match name {
                    "" => "a $ without a name; write $$ for one $; there are".to_owned(),
                    name => format!("${name} is not known; there are"),
                };
                for (known, _) in Name::ALL {
                    write!(what, " ${known}").ok();
                }
                return Err(error(at, what));
            };
            if zpl {
                match field {
                    Field::Data { hex: true } => {}
                    Field::Data { hex: false } => {
                        let what =
                            "this field needs ^FH before its ^FD, so that no value can become a command";
                        return Err(error(at, what.into()));
                    }
                    Field::Outside { .. } => {
                        return Err(error(at, format!("${name} stands outside of field data (^FD … ^FS)")));
                    }
                }
            }
            pieces.push(Piece::Value(*value));
            at += begin + len + usize::from(braced);
        }
        let template = Self { pieces, zpl };
        if !template.pieces.iter().any(|p| matches!(p, Piece::Value(Name::code | Name::serial))) {
            return Err(error(
                text.len(),
                "it has neither $code nor $serial, so its labels are all alike".into(),
            ));
        }
        Ok(template)
    }

    /// Whether a scanner finds the square code's text on it.
    pub fn has_code(&self) -> bool {
        self.pieces.contains(&Piece::Value(Name::code))
    }

    /// The label's text.
    pub fn fill(&self, values: &Values) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value(name) => {
                    for c in values.get(*name).chars() {
                        match c {
                            '^' | '~' | '_' if self.zpl => {
                                write!(out, "_{:02X}", c as u32).unwrap_or_default()
                            }
                            c if c.is_control() => out.push(' '),
                            c => out.push(c),
                        }
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        Values {
            serial: "B_1-00001K".into(),
            part_number: "a^FS^XZ~JA b\u{7}".into(),
            code: "KW1:B_1-00001K:0123456789ABCDEF:0000".into(),
            ..Values::default()
        }
    }

    #[test]
    fn the_examples_are_valid_and_hold_the_code_once() {
        for (text, kind) in [
            (include_str!("../../../assets/label.zpl"), "^BXN"),
            (include_str!("../../../assets/label-qr.zpl"), "^BQN"),
        ] {
            let template = Template::parse(text).unwrap();
            assert!(template.has_code());
            let label = template.fill(&values());
            assert!(!label.contains('$') && label.contains(kind), "{label}");
            assert_eq!(label.matches("KW1:B_5F1-00001K:0123456789ABCDEF:0000").count(), 1);
            // A comment ends at the next sign of a command.
            for comment in text.lines().filter(|l| l.starts_with("^FX")) {
                assert!(!comment[1..].contains(['^', '~']), "{comment}");
            }
        }
    }

    #[test]
    fn values_never_become_commands() {
        let template = Template::parse("^XA^FO1,1^FH^FD$part_number ${serial}$$^FS^XZ").unwrap();
        assert_eq!(template.fill(&values()), "^XA^FO1,1^FH^FDa_5EFS_5EXZ_7EJA b  B_5F1-00001K$^FS^XZ");
        let plain = Template::parse("$serial;$part_number\n").unwrap();
        assert_eq!(
            plain.fill(&values()),
            "B_1-00001K;a^FS^XZ~JA b \n",
            "another printer's language has no such signs"
        );
    }

    #[test]
    fn errors_name_line_and_column() {
        for (text, line, column, what) in [
            ("a\n  é $serail b", 2, 5, "$serail is not known; there are $serial"),
            ("$serial $", 1, 9, "without a name"),
            ("${serial", 1, 1, "without its }"),
            ("plain", 1, 6, "neither $code nor $serial"),
            ("^XA\n^FD$serial^FS", 2, 4, "needs ^FH"),
            ("^XA^FH^FDx^FS^FD$serial^FS", 1, 17, "needs ^FH"),
            ("^XA^PQ$serial^XZ", 1, 7, "outside of field data"),
            ("^XA^FH^FDx^FS $serial", 1, 15, "outside of field data"),
            ("^XA^FH\\^FD$serial^FS", 1, 4, "another sign"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{error}");
            assert!(error.what.contains(what), "{error}");
        }
    }
}
