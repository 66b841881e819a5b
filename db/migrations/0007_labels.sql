-- Schema 7: labels, serials by pattern, the gray-release gate, and what was decided about orders and batches.

-- What a unit of the order needs of its label before it passes.
ALTER TABLE product_order ADD COLUMN label TEXT NOT NULL DEFAULT 'none' CHECK (label IN ('none', 'print', 'print+scan-back'));
CREATE TRIGGER product_order_label BEFORE UPDATE OF label ON product_order WHEN NEW.label IS NOT OLD.label
BEGIN SELECT RAISE(ABORT, 'a product order keeps its label policy'); END;

-- How the batch's serials look, dates and batch filled in; '' = <batch>-<counter><check>.
ALTER TABLE batch ADD COLUMN serial_pattern TEXT NOT NULL DEFAULT '';
-- The same as it was entered, for a copy of the batch.
ALTER TABLE batch ADD COLUMN serial_form TEXT NOT NULL DEFAULT '';
-- After so many passes the batch waits until somebody has approved a sample; 0 = what the station says.
ALTER TABLE batch ADD COLUMN gray_release INTEGER NOT NULL DEFAULT 0 CHECK (gray_release BETWEEN 0 AND 4294967295);
-- Units that passed when they were made, ever, and how many of them an approved sample stands for.
ALTER TABLE batch ADD COLUMN passed   INTEGER NOT NULL DEFAULT 0 CHECK (passed >= 0);
ALTER TABLE batch ADD COLUMN approved INTEGER NOT NULL DEFAULT 0 CHECK (approved >= 0);
ALTER TABLE batch ADD COLUMN closed_reason TEXT;
UPDATE batch SET passed = (SELECT count(*) FROM unit WHERE unit.batch = batch.id AND state = 'passed');
UPDATE batch SET approved = passed;
CREATE TRIGGER batch_serial_pattern BEFORE UPDATE OF serial_pattern ON batch WHEN NEW.serial_pattern IS NOT OLD.serial_pattern
BEGIN SELECT RAISE(ABORT, 'a batch keeps its serial pattern'); END;
CREATE TRIGGER batch_passed_grows BEFORE UPDATE OF passed, approved ON batch
WHEN NEW.passed < OLD.passed OR NEW.approved < OLD.approved OR NEW.approved > NEW.passed
BEGIN SELECT RAISE(ABORT, 'passes and approvals of a batch only grow, and none is approved that did not pass'); END;

-- Batches with one pattern share one counter, so that no serial comes twice.
CREATE TABLE serial_series (
    pattern TEXT    PRIMARY KEY CHECK (length(pattern) > 0),
    next    INTEGER NOT NULL DEFAULT 1 CHECK (next > 0)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER serial_series_grows BEFORE UPDATE ON serial_series WHEN NEW.next < OLD.next OR NEW.pattern IS NOT OLD.pattern
BEGIN SELECT RAISE(ABORT, 'a serial never comes again'); END;
CREATE TRIGGER serial_series_no_delete BEFORE DELETE ON serial_series
BEGIN SELECT RAISE(ABORT, 'a serial never comes again'); END;

-- What stood on the label that was printed last, and when that very text was read back from the unit.
ALTER TABLE unit ADD COLUMN label_code TEXT;
ALTER TABLE unit ADD COLUMN label_scanned_at_ms INTEGER;
CREATE TRIGGER unit_label_scanned BEFORE UPDATE OF label_scanned_at_ms ON unit
WHEN NEW.label_scanned_at_ms IS NOT NULL AND (NEW.label_printed_at_ms IS NULL OR NEW.label_code IS NULL)
BEGIN SELECT RAISE(ABORT, 'a label is read back after it was printed'); END;
CREATE TRIGGER unit_label_replaced AFTER UPDATE OF label_printed_at_ms, label_code ON unit
WHEN OLD.label_scanned_at_ms IS NOT NULL AND NEW.label_scanned_at_ms IS OLD.label_scanned_at_ms
BEGIN UPDATE unit SET label_scanned_at_ms = NULL WHERE id = NEW.id; END;
-- New keys (kind 'update') leave a label where it is.
CREATE TRIGGER attempt_pass_label BEFORE UPDATE OF outcome ON attempt
WHEN NEW.outcome = 'PASS' AND NEW.kind = 'make' AND EXISTS (
    SELECT 1 FROM unit u JOIN batch b ON b.id = u.batch JOIN product_order p ON p.id = b.po
    WHERE u.id = NEW.unit AND ((p.label <> 'none' AND u.label_printed_at_ms IS NULL)
                               OR (p.label = 'print+scan-back' AND u.label_scanned_at_ms IS NULL)))
BEGIN SELECT RAISE(ABORT, 'a unit of this order passes with its label on it'); END;

-- One row per decision about a product order or one of its batches (batch NULL: the order itself).
CREATE TABLE order_event (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    po       INTEGER NOT NULL REFERENCES product_order (id),
    batch    INTEGER REFERENCES batch (id),
    at_ms    INTEGER NOT NULL,
    operator TEXT    NOT NULL,
    kind     TEXT    NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    reason   TEXT    NOT NULL DEFAULT '',
    detail   TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(detail)),
    CHECK (kind <> 'reopened' OR length(reason) > 0)
) STRICT;
CREATE INDEX order_event_by_order ON order_event (po, seq);
CREATE INDEX order_event_by_batch ON order_event (batch, seq) WHERE batch IS NOT NULL;
CREATE TRIGGER order_event_no_update BEFORE UPDATE ON order_event
BEGIN SELECT RAISE(ABORT, 'order_event is append-only'); END;
CREATE TRIGGER order_event_no_delete BEFORE DELETE ON order_event
BEGIN SELECT RAISE(ABORT, 'order_event is append-only'); END;
-- A closed batch opens again only behind a row that says who did it and why.
CREATE TRIGGER batch_reopened BEFORE UPDATE OF state ON batch
WHEN OLD.state = 'closed' AND NEW.state <> 'closed'
 AND coalesce((SELECT kind FROM order_event WHERE batch = NEW.id ORDER BY seq DESC LIMIT 1), '') <> 'reopened'
BEGIN SELECT RAISE(ABORT, 'a closed batch is opened again with a reason'); END;
