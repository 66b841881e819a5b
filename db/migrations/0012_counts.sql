-- Schema 12: counts that cost one look, however large the batch or the list.

-- What a batch's units came to. The header of the window is read from it after every unit: with a million units in a batch, looking at
-- each of them would take seconds. Kept by triggers; `unit_class` says what a unit counts as.
CREATE TABLE batch_tally (
    batch INTEGER NOT NULL REFERENCES batch (id),
    class TEXT    NOT NULL CHECK (class IN ('in-progress', 'passed', 'first-pass', 'failed', 'scrapped')),
    units INTEGER NOT NULL CHECK (units >= 0),
    PRIMARY KEY (batch, class)
) STRICT, WITHOUT ROWID;

-- A unit that passed stays passed whatever a later look at it ran into (first-pass: its very first attempt passed). 607: the station
-- stopped meanwhile, which says nothing about the unit. A last attempt that passed, and a unit that did not: QA opened it again.
CREATE VIEW unit_class AS
SELECT u.id AS unit, u.batch AS batch,
       CASE WHEN u.state = 'scrapped' THEN 'scrapped'
            WHEN u.state = 'passed' AND (SELECT outcome FROM attempt WHERE unit = u.id ORDER BY id LIMIT 1) = 'PASS' THEN 'first-pass'
            WHEN u.state = 'passed' THEN 'passed'
            WHEN u.state = 'quarantined' THEN 'failed'
            WHEN a.outcome IS NULL OR a.outcome = 'PASS' OR a.failure_code = 607 THEN 'in-progress'
            ELSE 'failed' END AS class
FROM unit u LEFT JOIN attempt a ON a.id = (SELECT max(id) FROM attempt WHERE unit = u.id);

INSERT INTO batch_tally SELECT batch, class, count(*) FROM unit_class GROUP BY batch, class;

-- Before a change a unit leaves its class, after it it enters the one that it has then.
CREATE TRIGGER tally_unit_new AFTER INSERT ON unit
BEGIN
    INSERT INTO batch_tally SELECT batch, class, 1 FROM unit_class WHERE unit = NEW.id
    ON CONFLICT (batch, class) DO UPDATE SET units = units + 1;
END;
CREATE TRIGGER tally_unit_leaves BEFORE UPDATE OF state ON unit
BEGIN
    UPDATE batch_tally SET units = units - 1 WHERE batch = OLD.batch AND class = (SELECT class FROM unit_class WHERE unit = OLD.id);
END;
CREATE TRIGGER tally_unit_enters AFTER UPDATE OF state ON unit
BEGIN
    INSERT INTO batch_tally SELECT batch, class, 1 FROM unit_class WHERE unit = NEW.id
    ON CONFLICT (batch, class) DO UPDATE SET units = units + 1;
END;
CREATE TRIGGER tally_attempt_new_leaves BEFORE INSERT ON attempt WHEN NEW.unit IS NOT NULL
BEGIN
    UPDATE batch_tally SET units = units - 1
    WHERE batch = (SELECT batch FROM unit WHERE id = NEW.unit) AND class = (SELECT class FROM unit_class WHERE unit = NEW.unit);
END;
CREATE TRIGGER tally_attempt_new_enters AFTER INSERT ON attempt WHEN NEW.unit IS NOT NULL
BEGIN
    INSERT INTO batch_tally SELECT batch, class, 1 FROM unit_class WHERE unit = NEW.unit
    ON CONFLICT (batch, class) DO UPDATE SET units = units + 1;
END;
CREATE TRIGGER tally_attempt_leaves BEFORE UPDATE OF unit, outcome, failure_code ON attempt WHEN NEW.unit IS NOT NULL
BEGIN
    UPDATE batch_tally SET units = units - 1
    WHERE batch = (SELECT batch FROM unit WHERE id = NEW.unit) AND class = (SELECT class FROM unit_class WHERE unit = NEW.unit);
END;
CREATE TRIGGER tally_attempt_enters AFTER UPDATE OF unit, outcome, failure_code ON attempt WHEN NEW.unit IS NOT NULL
BEGIN
    INSERT INTO batch_tally SELECT batch, class, 1 FROM unit_class WHERE unit = NEW.unit
    ON CONFLICT (batch, class) DO UPDATE SET units = units + 1;
END;

-- Of how many units a list gave a key away: the log shows it for every list.
DROP TRIGGER export_no_update;
ALTER TABLE export ADD COLUMN keys_of INTEGER NOT NULL DEFAULT 0 CHECK (keys_of >= 0);
UPDATE export SET keys_of = (SELECT count(*) FROM export_unit WHERE export = export.id AND (ak > 0 OR ck > 0));
CREATE TRIGGER export_no_update BEFORE UPDATE ON export
WHEN OLD.revoked_at_ms IS NOT NULL OR NEW.batch IS NOT OLD.batch OR NEW.selection IS NOT OLD.selection
  OR NEW.format IS NOT OLD.format OR NEW.file IS NOT OLD.file OR NEW.rows IS NOT OLD.rows
  OR NEW.sha256 IS NOT OLD.sha256 OR NEW.operator IS NOT OLD.operator OR NEW.at_ms IS NOT OLD.at_ms
  OR NEW.protection IS NOT OLD.protection OR NEW.reason IS NOT OLD.reason OR NEW.handed_to IS NOT OLD.handed_to
  OR NEW.second_person IS NOT OLD.second_person OR NEW.replaces IS NOT OLD.replaces OR NEW.keys_of IS NOT OLD.keys_of
BEGIN SELECT RAISE(ABORT, 'an export never changes; it can be revoked once'); END;
