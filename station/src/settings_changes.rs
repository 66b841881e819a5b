//! What a new station.toml changes of the one before, for the audit log: keys with their old and new values.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use toml_edit::{DocumentMut, Item, Table};

/// Values that are not written down: the words of a program may hold whatever its maker wants to be told.
const HIDDEN: [&str; 2] = ["command", "sound_command"];

/// Every key whose value differs, as `{"key": ["old", "new"]}`; what is not there is null. A file that can't be read counts as empty.
pub fn changes(old: &str, new: &str) -> Value {
    let (old, new) = (keys(old), keys(new));
    let mut all = Map::new();
    for key in old.keys().chain(new.keys()) {
        let (was, is) = (old.get(key), new.get(key));
        if was != is {
            let hidden = key.rsplit('.').next().is_some_and(|last| HIDDEN.contains(&last));
            let [was, is] =
                [was, is].map(|value| value.map(|v| if hidden { "(hidden)" } else { v.as_str() }));
            all.insert(key.clone(), json!([was, is]));
        }
    }
    Value::Object(all)
}

fn keys(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if let Ok(document) = text.parse::<DocumentMut>() {
        table("", document.as_table(), &mut all);
    }
    all
}

fn table(above: &str, table: &Table, all: &mut BTreeMap<String, String>) {
    for (key, item) in table {
        item_of(&if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") }, item, all);
    }
}

fn item_of(key: &str, item: &Item, all: &mut BTreeMap<String, String>) {
    match item {
        Item::None => {}
        Item::Table(inner) => table(key, inner, all),
        Item::ArrayOfTables(tables) => {
            for (i, inner) in tables.iter().enumerate() {
                table(&format!("{key}[{i}]"), inner, all);
            }
        }
        Item::Value(value) => {
            let text = match value.as_str() {
                Some(text) => text.to_owned(),
                // Blanks and comments around a value are no change of it.
                None => value.clone().decorated("", "").to_string(),
            };
            all.insert(key.to_owned(), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_named_with_both_values() {
        let old = "[station]\nname = \"line-1\" # ours\n[people]\nauto_lock_minutes = 10\n[[fixture]]\nname = \"left\"\n\
                   [label]\ncommand = [\"lp\", \"--key=7Q2\"]\n";
        let new = "# moved\n[people]\nauto_lock_minutes =   10\n[station]\nname = \"line-2\"\n[[fixture]]\nname = \"left\"\n\
                   [[fixture]]\nname = \"right\"\n[label]\ncommand = [\"lp\"]\n";
        let found = changes(old, new);
        assert_eq!(
            found,
            json!({
                "station.name": ["line-1", "line-2"], "fixture[1].name": [null, "right"],
                "label.command": ["(hidden)", "(hidden)"],
            })
        );
        assert_eq!(changes(new, new), json!({}));
        assert_eq!(changes("not = [toml", "a = 1"), json!({ "a": [null, "1"] }));
    }
}
