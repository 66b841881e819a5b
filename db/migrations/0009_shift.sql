-- Schema 9: shifts, their balance, and an index for the line's figures.
--
-- Rules that the tables themselves hold, whoever writes:
--  * at most one shift is open, and a start while none is opens one;
--  * a shift ends once, with nothing in work, and never changes after that;
--  * what did not balance is ended with a reason only.

-- What a shift is: the attempts with a number above after_attempt, up to last_attempt. Numbers, not times: the clock may jump.
CREATE TABLE shift (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    opened_at_ms  INTEGER NOT NULL,
    opened_by     TEXT    NOT NULL,
    after_attempt INTEGER NOT NULL CHECK (after_attempt >= 0),
    ended_at_ms   INTEGER,
    ended_by      TEXT,
    last_attempt  INTEGER CHECK (last_attempt >= after_attempt),
    -- What did not balance, as it was told.
    differences   TEXT    CHECK (differences IS NULL OR json_valid(differences)),
    reason        TEXT    NOT NULL DEFAULT '' CHECK (length(reason) <= 500),
    CHECK ((ended_at_ms IS NULL) = (ended_by IS NULL)),
    CHECK ((ended_at_ms IS NULL) = (last_attempt IS NULL)),
    CHECK ((ended_at_ms IS NULL) = (differences IS NULL)),
    CHECK (differences IS NULL OR differences = '[]' OR length(reason) > 0)
) STRICT;
CREATE UNIQUE INDEX shift_open ON shift ((ended_at_ms IS NULL)) WHERE ended_at_ms IS NULL;

-- One batch of a shift that ended: the whole batch, what the shift worked on, and what somebody counted in the trays.
CREATE TABLE shift_batch (
    shift            INTEGER NOT NULL REFERENCES shift (id),
    batch            INTEGER NOT NULL REFERENCES batch (id),
    planned          INTEGER NOT NULL CHECK (planned >= 0),
    replaced         INTEGER NOT NULL CHECK (replaced >= 0),
    passed           INTEGER NOT NULL CHECK (passed >= 0),
    failed           INTEGER NOT NULL CHECK (failed >= 0),
    scrapped         INTEGER NOT NULL CHECK (scrapped >= 0),
    unfinished       INTEGER NOT NULL CHECK (unfinished >= 0),
    not_started      INTEGER NOT NULL CHECK (not_started >= 0),
    shift_passed     INTEGER NOT NULL CHECK (shift_passed >= 0),
    shift_failed     INTEGER NOT NULL CHECK (shift_failed >= 0),
    shift_scrapped   INTEGER NOT NULL CHECK (shift_scrapped >= 0),
    shift_unfinished INTEGER NOT NULL CHECK (shift_unfinished >= 0),
    counted_passed   INTEGER CHECK (counted_passed >= 0),
    counted_failed   INTEGER CHECK (counted_failed >= 0),
    counted_scrapped INTEGER CHECK (counted_scrapped >= 0),
    PRIMARY KEY (shift, batch),
    CHECK (planned + replaced = passed + failed + scrapped + unfinished + not_started)
) STRICT, WITHOUT ROWID;

-- Everything that the figures read of an attempt, so that a million of them are read without their proofs.
CREATE INDEX attempt_figures ON attempt (batch, ended_at_ms, kind, unit, fixture, started_at_ms, outcome, failure_code)
    WHERE ended_at_ms IS NOT NULL;

CREATE TRIGGER shift_opens AFTER INSERT ON attempt
WHEN NEW.kind = 'make' AND NOT EXISTS (SELECT 1 FROM shift WHERE ended_at_ms IS NULL)
BEGIN INSERT INTO shift (opened_at_ms, opened_by, after_attempt) VALUES (NEW.started_at_ms, NEW.operator, NEW.id - 1); END;
CREATE TRIGGER shift_ends BEFORE UPDATE OF ended_at_ms ON shift
WHEN OLD.ended_at_ms IS NULL AND NEW.ended_at_ms IS NOT NULL AND EXISTS (SELECT 1 FROM attempt WHERE outcome IS NULL)
BEGIN SELECT RAISE(ABORT, 'a shift ends when nothing is in work'); END;
CREATE TRIGGER shift_ended BEFORE UPDATE ON shift
WHEN OLD.ended_at_ms IS NOT NULL OR NEW.opened_at_ms IS NOT OLD.opened_at_ms OR NEW.opened_by IS NOT OLD.opened_by
  OR NEW.after_attempt IS NOT OLD.after_attempt
BEGIN SELECT RAISE(ABORT, 'a shift that ended never changes'); END;
CREATE TRIGGER shift_no_delete BEFORE DELETE ON shift
BEGIN SELECT RAISE(ABORT, 'shifts are kept for ever'); END;
CREATE TRIGGER shift_batch_while_open BEFORE INSERT ON shift_batch
WHEN NOT EXISTS (SELECT 1 FROM shift WHERE id = NEW.shift AND ended_at_ms IS NULL)
BEGIN SELECT RAISE(ABORT, 'the balance of a shift that ended never changes'); END;
CREATE TRIGGER shift_batch_no_update BEFORE UPDATE ON shift_batch
BEGIN SELECT RAISE(ABORT, 'the balance of a shift never changes'); END;
CREATE TRIGGER shift_batch_no_delete BEFORE DELETE ON shift_batch
BEGIN SELECT RAISE(ABORT, 'shifts are kept for ever'); END;
