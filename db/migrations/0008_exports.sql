-- Schema 8: who received which units' keys, when, under which protection, and what became of it.

-- `export` is made anew: a list may hold units of several batches, and it says how it is protected and who stood by.
CREATE TABLE export_8 (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    -- NULL: units of any batch.
    batch         INTEGER REFERENCES batch (id),
    -- Which units, in words: `batch=B-1 & state=passed`.
    selection     TEXT    NOT NULL,
    format        TEXT    NOT NULL,
    file          TEXT    NOT NULL,
    rows          INTEGER NOT NULL CHECK (rows >= 0),
    sha256        TEXT    NOT NULL CHECK (length(sha256) = 64),
    operator      TEXT    NOT NULL,
    at_ms         INTEGER NOT NULL,
    -- none: it holds no secret. plain: it does, in clear, because a person said so and why.
    protection    TEXT    NOT NULL CHECK (protection IN ('none', 'plain', 'age', 'openpgp', 'password')),
    reason        TEXT    NOT NULL DEFAULT '' CHECK (length(reason) <= 500),
    -- The receiver's name, for people.
    handed_to     TEXT    NOT NULL DEFAULT '',
    second_person TEXT    NOT NULL DEFAULT '',
    replaces      INTEGER REFERENCES export_8 (id),
    revoked_at_ms INTEGER,
    revoked_by    TEXT,
    revoke_reason TEXT    CHECK (length(revoke_reason) BETWEEN 1 AND 500),
    CHECK ((protection = 'plain') = (reason <> '')),
    CHECK (second_person = '' OR second_person <> operator),
    CHECK ((revoked_at_ms IS NULL) = (revoked_by IS NULL)),
    CHECK ((revoked_at_ms IS NULL) = (revoke_reason IS NULL))
) STRICT;
INSERT INTO export_8 (id, batch, selection, format, file, rows, sha256, operator, at_ms, protection)
SELECT e.id, e.batch, 'batch=' || b.name, e.format, e.file, e.rows, e.sha256, e.operator, e.at_ms,
       CASE WHEN e.format LIKE '%.age' THEN 'age' ELSE 'none' END
FROM export e JOIN batch b ON b.id = e.batch;

CREATE TABLE export_recipient_8 (
    export      INTEGER NOT NULL REFERENCES export_8 (id),
    fingerprint TEXT    NOT NULL,
    PRIMARY KEY (export, fingerprint)
) STRICT, WITHOUT ROWID;
INSERT INTO export_recipient_8 SELECT export, fingerprint FROM export_recipient;

-- The generations of the keys that the list gave away; 0 = none.
CREATE TABLE export_unit_8 (
    export INTEGER NOT NULL REFERENCES export_8 (id),
    unit   INTEGER NOT NULL REFERENCES unit (id),
    ak     INTEGER NOT NULL DEFAULT 0 CHECK (ak >= 0),
    ck     INTEGER NOT NULL DEFAULT 0 CHECK (ck >= 0),
    PRIMARY KEY (unit, export)
) STRICT, WITHOUT ROWID;
-- Lists from before: the keys that were live when they were made. A unit that had not passed yet is counted too; that
-- errs on the safe side.
INSERT INTO export_unit_8 (export, unit, ak, ck)
SELECT x.export, x.unit,
       CASE WHEN e.protection = 'none' THEN 0 ELSE coalesce((SELECT max(generation) FROM key_assignment k
           WHERE k.unit = x.unit AND k.purpose = 'agent' AND k.state = 'posted' AND k.settled_at_ms <= e.at_ms
             AND (k.retired_at_ms IS NULL OR k.retired_at_ms > e.at_ms)), 0) END,
       CASE WHEN e.protection = 'none' THEN 0 ELSE coalesce((SELECT max(generation) FROM key_assignment k
           WHERE k.unit = x.unit AND k.purpose = 'cloud' AND k.state = 'posted' AND k.settled_at_ms <= e.at_ms
             AND (k.retired_at_ms IS NULL OR k.retired_at_ms > e.at_ms)), 0) END
FROM export_unit x JOIN export_8 e ON e.id = x.export;

DROP TABLE export_recipient;
DROP TABLE export_unit;
DROP TABLE export;
ALTER TABLE export_8 RENAME TO export;
ALTER TABLE export_recipient_8 RENAME TO export_recipient;
ALTER TABLE export_unit_8 RENAME TO export_unit;
CREATE INDEX export_by_batch ON export (batch, id);
CREATE INDEX export_recipient_by_fingerprint ON export_recipient (fingerprint, export);
CREATE INDEX export_unit_by_export ON export_unit (export);

-- What was handed out stays handed out; only that it was revoked is added, once.
CREATE TRIGGER export_no_delete BEFORE DELETE ON export
BEGIN SELECT RAISE(ABORT, 'exports are kept for ever'); END;
CREATE TRIGGER export_no_update BEFORE UPDATE ON export
WHEN OLD.revoked_at_ms IS NOT NULL OR NEW.batch IS NOT OLD.batch OR NEW.selection IS NOT OLD.selection
  OR NEW.format IS NOT OLD.format OR NEW.file IS NOT OLD.file OR NEW.rows IS NOT OLD.rows
  OR NEW.sha256 IS NOT OLD.sha256 OR NEW.operator IS NOT OLD.operator OR NEW.at_ms IS NOT OLD.at_ms
  OR NEW.protection IS NOT OLD.protection OR NEW.reason IS NOT OLD.reason OR NEW.handed_to IS NOT OLD.handed_to
  OR NEW.second_person IS NOT OLD.second_person OR NEW.replaces IS NOT OLD.replaces
BEGIN SELECT RAISE(ABORT, 'an export never changes; it can be revoked once'); END;
CREATE TRIGGER export_recipient_no_delete BEFORE DELETE ON export_recipient
BEGIN SELECT RAISE(ABORT, 'exports are kept for ever'); END;
CREATE TRIGGER export_recipient_no_update BEFORE UPDATE ON export_recipient
BEGIN SELECT RAISE(ABORT, 'an export never changes'); END;
CREATE TRIGGER export_unit_no_delete BEFORE DELETE ON export_unit
BEGIN SELECT RAISE(ABORT, 'exports are kept for ever'); END;
CREATE TRIGGER export_unit_no_update BEFORE UPDATE ON export_unit
BEGIN SELECT RAISE(ABORT, 'an export never changes'); END;
