//! Backups of a station at work, and the way back.

mod support;

use keywright::backup::{self, Manifest};
use keywright::config::BackupConfig;
use keywright::failure::FailureCode;
use keywright::records::{Records, RecordsError, SqliteRecords};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use support::{Station, open, unit_id};

const NOON: i64 = 1_800_000_000_000;
const HOUR: i64 = 3_600_000;

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A home with everything that a backup holds, and things that it does not.
fn furnish(home: &Path) {
    std::fs::write(home.join("station.toml"), "[station]\nname = \"bench-1\"\n").unwrap();
    for (file, text) in [
        ("anchors/root.sealed", "sealed"),
        ("cloud/plant.journal", "line"),
        ("exports/keys.age", "no"),
        ("logs/x.jsonl", "no"),
    ] {
        let path = home.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn backup_of(station: &Station, folder: &Path) -> backup::Made {
    backup::make(station.home.path(), &station.records, folder, NOON, go_on).unwrap()
}

#[test]
fn a_station_comes_back_whole_with_its_keys() {
    let station = Station::new(4, 2);
    furnish(station.home.path());
    let mut device = station.device(unit_id(1), keywright_protocol::Suite::Hardened, 1);
    station.arrive(unit_id(1));
    station.complete(&mut device);
    let folder = tempfile::tempdir().unwrap();
    let made = backup_of(&station, folder.path());
    assert_eq!(made.path.file_name().unwrap(), "backup-bench-1-20270115-080000.tar.gz");
    let files: Vec<_> = made.manifest.files.keys().map(String::as_str).collect();
    assert!(files.contains(&"anchors/root.sealed") && files.contains(&"station.toml"), "{files:?}");
    assert!(!files.iter().any(|f| f.starts_with("exports") || f.starts_with("logs")), "{files:?}");
    assert_eq!(made.manifest.database.units, 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half done is left");
    assert_eq!(backup::check(&made.path).unwrap(), made.manifest);
    // Work that came after the backup is not in it.
    station.arrive(unit_id(2));
    let keys = |records: &SqliteRecords| {
        let keys = records.key_vault().unit_keys(unit_id(1)).unwrap();
        [keys.agent, keys.cloud].map(|key| key.unwrap().key.expose().to_vec())
    };
    let history = |records: &SqliteRecords| format!("{:?}", records.unit_events(unit_id(1)).unwrap());

    let home = tempfile::tempdir().unwrap();
    let restored = backup::restore(&made.path, home.path(), false, NOON).unwrap();
    assert_eq!((&restored.manifest, restored.aside), (&made.manifest, None));
    assert_eq!(std::fs::read_to_string(home.path().join("cloud/plant.journal")).unwrap(), "line");
    let records = open(home.path());
    assert_eq!(history(&records), history(&station.records));
    assert!(records.unit(unit_id(2)).unwrap().is_none());
    records.verify_history().unwrap();
    assert_eq!(keys(&records), keys(&station.records));
}

#[test]
fn a_station_that_is_there_is_moved_aside_or_left_alone() {
    let station = Station::new(4, 2);
    let home = station.home.path().to_owned();
    furnish(&home);
    let folder = tempfile::tempdir().unwrap();
    let made = backup_of(&station, folder.path());
    std::fs::write(home.join("station.toml"), "changed").unwrap();
    station.arrive(unit_id(1));

    let busy = backup::restore(&made.path, &home, true, NOON).unwrap_err();
    assert_eq!(busy.code, FailureCode::RecordsFailed, "{busy}");
    let Station { home: keep, records, agent, .. } = station;
    drop((records, agent));
    let refused = backup::restore(&made.path, &home, false, NOON).unwrap_err();
    assert_eq!(refused.code, FailureCode::RestoreRefused);
    assert!(refused.remedy.contains("--replace"), "{refused}");
    assert_eq!(std::fs::read_to_string(home.join("station.toml")).unwrap(), "changed");

    let restored = backup::restore(&made.path, &home, true, NOON).unwrap();
    let aside = restored.aside.unwrap();
    assert_eq!(std::fs::read_to_string(aside.join("station.toml")).unwrap(), "changed");
    assert_eq!(units_of(&aside), 1, "what was replaced is whole");
    assert_eq!(units_of(&home), 0);
    let names: Vec<_> = std::fs::read_dir(&home).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!names.iter().any(|n| n.to_string_lossy().starts_with(".restore")), "{names:?}");
    drop(keep);
}

fn units_of(home: &Path) -> usize {
    let records = open(home);
    let batch = records.list_batches().unwrap()[0].id;
    records.list_units(batch).unwrap().len()
}

/// The archive's entries, changed by `edit`, written again.
fn forge(from: &Path, to: &Path, edit: impl Fn(&mut Vec<(String, Vec<u8>)>)) {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(from).unwrap()));
    let mut entries: Vec<(String, Vec<u8>)> = archive
        .entries()
        .unwrap()
        .map(|e| {
            let mut e = e.unwrap();
            let name = e.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            e.read_to_end(&mut bytes).unwrap();
            (name, bytes)
        })
        .collect();
    edit(&mut entries);
    let file = std::fs::File::create(to).unwrap();
    let mut out = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        // `append_data` would refuse names that leave the folder; a forger would not.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        out.append(&header, bytes.as_slice()).unwrap();
    }
    out.into_inner().unwrap().finish().unwrap().flush().unwrap();
}

fn manifest(entries: &mut [(String, Vec<u8>)], edit: impl Fn(&mut Manifest)) {
    let mut manifest: Manifest = serde_json::from_slice(&entries[0].1).unwrap();
    edit(&mut manifest);
    entries[0].1 = serde_json::to_vec(&manifest).unwrap();
}

#[test]
fn a_damaged_a_cut_and_a_forged_backup_change_nothing() {
    type Edit = Box<dyn Fn(&mut Vec<(String, Vec<u8>)>)>;
    let station = Station::new(4, 2);
    furnish(station.home.path());
    let folder = tempfile::tempdir().unwrap();
    let made = backup_of(&station, folder.path());
    let forged = folder.path().join("forged.tar.gz");
    let cases: [(&str, Edit); 9] = [
        ("not as it was saved", Box::new(|e| *e.last_mut().unwrap().1.last_mut().unwrap() ^= 1)),
        ("cut short", Box::new(|e| drop(e.pop()))),
        ("does not begin with a manifest", Box::new(|e| drop(e.remove(0)))),
        ("which no backup holds", Box::new(|e| e.push(("notes.txt".into(), vec![1])))),
        (
            "which no backup holds",
            Box::new(|e| {
                manifest(e, |m| drop(m.files.insert("../escaped".into(), "00".into())));
                e.push(("../escaped".into(), vec![1]));
            }),
        ),
        (
            "which no backup holds",
            Box::new(|e| {
                manifest(e, |m| drop(m.files.insert("/tmp/escaped".into(), "00".into())));
                e.push(("/tmp/escaped".into(), vec![1]));
            }),
        ),
        ("a newer Keywright", Box::new(|e| manifest(e, |m| m.format += 1))),
        ("other counts", Box::new(|e| manifest(e, |m| m.database.units += 1))),
        ("manifest can't be read", Box::new(|e| e[0].1 = b"{".to_vec())),
    ];
    let home = tempfile::tempdir().unwrap();
    let empty = || std::fs::read_dir(home.path()).unwrap().next().is_none();
    for (expected, edit) in &cases {
        forge(&made.path, &forged, edit);
        let error = backup::restore(&forged, home.path(), true, NOON).unwrap_err();
        assert_eq!(error.code, FailureCode::RestoreRefused);
        assert!(error.sentence.contains(expected), "{expected}: {error}");
        assert!(empty(), "{expected}");
    }
    let whole = std::fs::read(&made.path).unwrap();
    let ends = whole.len() - 12..whole.len();
    for len in (0..whole.len()).step_by(whole.len() / 40).chain(ends) {
        std::fs::write(&forged, &whole[..len]).unwrap();
        assert_eq!(backup::check(&forged).unwrap_err().code, FailureCode::RestoreRefused, "{len}");
        assert!(backup::restore(&forged, home.path(), true, NOON).is_err() && empty());
    }
    assert_eq!(backup::check(Path::new("nowhere")).unwrap_err().code, FailureCode::RestoreRefused);
}

#[test]
fn a_newer_schema_is_not_restored() {
    let station = Station::new(1, 2);
    let folder = tempfile::tempdir().unwrap();
    let made = backup_of(&station, folder.path());
    let home = tempfile::tempdir().unwrap();
    backup::restore(&made.path, home.path(), false, NOON).unwrap();
    let db = home.path().join("station.db");
    let sql = rusqlite::Connection::open(&db).unwrap();
    sql.execute_batch("PRAGMA user_version = 999").unwrap();
    drop(sql);
    assert!(matches!(
        keywright::records::check_database(&db),
        Err(RecordsError::NewerSchema { found: 999, .. })
    ));
}

#[test]
fn it_can_be_stopped_and_a_folder_that_takes_nothing_is_named() {
    let station = Station::new(1, 2);
    // More than one step's pages.
    let filler = serde_json::json!({ "text": "x".repeat(60_000) });
    station.arrive(unit_id(1));
    for _ in 0..100 {
        station.records.unit_event(unit_id(1), None, "note", filler.clone(), None).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let stopped = backup::make(station.home.path(), &station.records, folder.path(), NOON, |done, all| {
        assert!(done < all);
        ControlFlow::Break(())
    });
    assert_eq!(stopped.unwrap_err().code, FailureCode::Cancelled);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = backup::make(station.home.path(), &station.records, &file, NOON, go_on).unwrap_err();
    assert_eq!(refused.code, FailureCode::BackupFailed);
    assert!(refused.sentence.contains("file"), "{refused}");
    // Work of others during the copy neither waits nor spoils it.
    let mut steps = 0;
    let made = backup::make(station.home.path(), &station.records, folder.path(), NOON, |_, _| {
        steps += 1;
        station.records.unit_event(unit_id(1), None, "meanwhile", serde_json::json!({}), None).unwrap();
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(steps >= 1, "a copy of many pages has steps between");
    assert_eq!(made.manifest.database.events, 101, "the copy is of the instant at which it began");
}

#[test]
fn the_clock_makes_them_and_the_oldest_go() {
    let station = Station::new(1, 2);
    let home = station.home.path();
    let config = BackupConfig { folder: None, every_hours: 24, keep: 3 };
    let at = |now| backup::keep(home, &station.records, &config, now, &|| false).unwrap();
    let names = || -> Vec<PathBuf> {
        backup::list(&home.join("backups"), "bench-1").into_iter().map(|(_, p)| p).collect()
    };
    assert!(at(NOON).is_some(), "the first is due at once");
    assert!(at(NOON + 23 * HOUR).is_none());
    for day in 1..6 {
        assert!(at(NOON + day * 24 * HOUR).is_some());
    }
    assert_eq!(names().len(), 3);
    let strange = home.join("backups/backup-bench-2-20200101-000000.tar.gz");
    std::fs::write(&strange, "").unwrap();
    std::fs::write(home.join("backups/backup-bench-1-notes.tar.gz"), "").unwrap();
    assert!(at(NOON + 6 * 24 * HOUR).is_some());
    assert!(strange.exists() && names().len() == 3, "another station's and foreign files stay");
    assert!(at(NOON - HOUR).is_some(), "a clock that was set back does not stop backups");
    let never = BackupConfig { every_hours: 0, ..config.clone() };
    assert!(backup::keep(home, &station.records, &never, NOON * 2, &|| false).unwrap().is_none());
}
