-- Schema 10: search over all units, units that came back under a number (RMA), and attempts that only look.

-- Every three characters of what differs between the serials of a batch, so that any part of one is found at once. What they have in
-- common, the batch's name or the head of its pattern, is left out: it would name every unit. Serials and patterns never change
-- and units are never removed, so this only grows. It holds no text of its own: what was found is looked up in `unit`.
CREATE VIEW batch_head AS
SELECT id AS batch, CASE WHEN instr(serial_pattern, '{') > 0 THEN substr(serial_pattern, 1, instr(serial_pattern, '{') - 1)
                         ELSE name || '-' END AS head FROM batch;
CREATE VIRTUAL TABLE unit_text USING fts5 (tail, content = '', columnsize = 0, tokenize = 'trigram');
INSERT INTO unit_text (rowid, tail)
SELECT u.id, CASE WHEN substr(u.serial, 1, length(h.head)) = h.head THEN substr(u.serial, length(h.head) + 1) ELSE u.serial END
FROM unit u JOIN batch_head h ON h.batch = u.batch ORDER BY u.id;
CREATE TRIGGER unit_text_grows AFTER INSERT ON unit
BEGIN
    INSERT INTO unit_text (rowid, tail)
    SELECT NEW.id, CASE WHEN substr(NEW.serial, 1, length(h.head)) = h.head THEN substr(NEW.serial, length(h.head) + 1)
                        ELSE NEW.serial END
    FROM batch_head h WHERE h.batch = NEW.batch;
END;

-- Most units have passed: an index of the others is small, and finds them in any batch.
CREATE INDEX unit_not_passed ON unit (state, batch, id) WHERE state <> 'passed';
-- Which units ever failed with a code.
CREATE INDEX attempt_by_failure ON attempt (failure_code, batch, unit) WHERE failure_code IS NOT NULL;

-- A unit that came back from a customer: under which number, why, and what was found. One may be open at a time.
CREATE TABLE rma (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    unit         INTEGER NOT NULL REFERENCES unit (id),
    number       TEXT    NOT NULL COLLATE NOCASE CHECK (length(number) BETWEEN 1 AND 32 AND number = trim(number)),
    -- What the customer says of it.
    reason       TEXT    NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    note         TEXT    NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    opened_at_ms INTEGER NOT NULL,
    opened_by    TEXT    NOT NULL,
    -- What was found, when it closed.
    finding      TEXT    CHECK (length(finding) BETWEEN 1 AND 500),
    closing_note TEXT    CHECK (length(closing_note) <= 500),
    closed_at_ms INTEGER CHECK (closed_at_ms >= opened_at_ms),
    closed_by    TEXT,
    UNIQUE (unit, number),
    CHECK ((closed_at_ms IS NULL) = (closed_by IS NULL)),
    CHECK ((closed_at_ms IS NULL) = (finding IS NULL)),
    CHECK ((closed_at_ms IS NULL) = (closing_note IS NULL))
) STRICT;
CREATE INDEX rma_by_number ON rma (number, unit);
CREATE UNIQUE INDEX rma_open ON rma (unit) WHERE closed_at_ms IS NULL;
CREATE TRIGGER rma_no_delete BEFORE DELETE ON rma
BEGIN SELECT RAISE(ABORT, 'units that came back are kept for ever'); END;
CREATE TRIGGER rma_closes_once BEFORE UPDATE ON rma
WHEN OLD.closed_at_ms IS NOT NULL OR NEW.unit IS NOT OLD.unit OR NEW.number IS NOT OLD.number OR NEW.reason IS NOT OLD.reason
  OR NEW.note IS NOT OLD.note OR NEW.opened_at_ms IS NOT OLD.opened_at_ms OR NEW.opened_by IS NOT OLD.opened_by
BEGIN SELECT RAISE(ABORT, 'a unit that came back keeps its number and reason, and is closed once'); END;

-- An attempt that changes no key: it proves the keys that are there once more.
ALTER TABLE attempt ADD COLUMN retest INTEGER NOT NULL DEFAULT 0 CHECK (retest IN (0, 1));
CREATE TRIGGER attempt_keeps_its_purpose BEFORE UPDATE OF retest ON attempt WHEN NEW.retest IS NOT OLD.retest
BEGIN SELECT RAISE(ABORT, 'an attempt keeps what it was for'); END;
