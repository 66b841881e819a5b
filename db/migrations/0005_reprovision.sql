-- Schema 5: units that come back, and product keys that leak.

-- What QA ordered for a unit. Open until the unit has passed with newer keys, or until it is withdrawn; at most one is open.
CREATE TABLE reprovision (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    unit         INTEGER NOT NULL REFERENCES unit (id),
    kind         TEXT    NOT NULL CHECK (kind IN ('new-keys', 'new-start', 'move-region')),
    reason       TEXT    NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    operator     TEXT    NOT NULL,
    -- Where to, for a move; 0 = it stays.
    region       INTEGER NOT NULL DEFAULT 0 CHECK (region BETWEEN 0 AND 4294967295),
    -- Key generations that it replaces, and those that replaced them.
    ak_before    INTEGER NOT NULL,
    ck_before    INTEGER NOT NULL,
    ak_after     INTEGER,
    ck_after     INTEGER,
    opened_at_ms INTEGER NOT NULL,
    -- A new start: since when the old identity is dead everywhere.
    revoked_at_ms INTEGER,
    ended_at_ms  INTEGER,
    outcome      TEXT    CHECK (outcome IN ('done', 'withdrawn')),
    CHECK ((ended_at_ms IS NULL) = (outcome IS NULL)),
    CHECK ((kind = 'move-region') = (region > 0)),
    CHECK (outcome IS NULL OR outcome <> 'done' OR ck_after > ck_before)
) STRICT;
CREATE UNIQUE INDEX reprovision_open ON reprovision (unit) WHERE ended_at_ms IS NULL;
CREATE INDEX reprovision_by_unit ON reprovision (unit, id);
CREATE TRIGGER reprovision_no_delete BEFORE DELETE ON reprovision
BEGIN SELECT RAISE(ABORT, 'orders of QA are kept for ever'); END;
CREATE TRIGGER reprovision_ended BEFORE UPDATE ON reprovision WHEN OLD.ended_at_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'an order of QA that ended never changes'); END;

-- The state to which a release from quarantine brings a unit back.
ALTER TABLE unit ADD COLUMN state_before TEXT;

-- The region of a unit's anchors, of the staged record, and of the next one; 0 = the product order's, or none.
ALTER TABLE enrolment ADD COLUMN region        INTEGER NOT NULL DEFAULT 0;
ALTER TABLE enrolment ADD COLUMN region_staged INTEGER NOT NULL DEFAULT 0;
ALTER TABLE enrolment ADD COLUMN region_wanted INTEGER NOT NULL DEFAULT 0;

-- When the unit was first given a key under its order's product key: what a leaked key enrolled is found by it.
ALTER TABLE enrolment ADD COLUMN enrolled_at_ms INTEGER NOT NULL DEFAULT 0;
UPDATE enrolment SET enrolled_at_ms =
    coalesce((SELECT min(reserved_at_ms) FROM key_assignment WHERE unit = enrolment.unit), 0);
CREATE INDEX enrolment_by_order ON enrolment (po, enrolled_at_ms);

-- Enrolments an hour that the vendor expects at most; 0 = not said.
ALTER TABLE product_order ADD COLUMN per_hour           INTEGER NOT NULL DEFAULT 0 CHECK (per_hour >= 0);
-- Since when the product key counts for nothing.
ALTER TABLE product_order ADD COLUMN key_invalid_at_ms  INTEGER;
ALTER TABLE product_order ADD COLUMN key_invalid_reason TEXT;
CREATE TRIGGER product_order_key_stays_invalid BEFORE UPDATE OF key_invalid_at_ms ON product_order
WHEN OLD.key_invalid_at_ms IS NOT NULL AND NEW.key_invalid_at_ms IS NOT OLD.key_invalid_at_ms
BEGIN SELECT RAISE(ABORT, 'a product key that was made invalid stays so'); END;

-- An alarm is about a unit or about a whole product order, and somebody looked at it or nobody did.
CREATE TABLE alarm_of_unit_or_order (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    unit       INTEGER REFERENCES unit (id),
    po         INTEGER REFERENCES product_order (id),
    at_ms      INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    detail     TEXT    NOT NULL CHECK (json_valid(detail)),
    count      INTEGER NOT NULL DEFAULT 1,
    seen_at_ms INTEGER,
    seen_by    TEXT,
    CHECK ((unit IS NULL) <> (po IS NULL)),
    CHECK ((seen_at_ms IS NULL) = (seen_by IS NULL))
) STRICT;
INSERT INTO alarm_of_unit_or_order (id, unit, at_ms, kind, detail, count)
SELECT id, unit, at_ms, kind, detail, count FROM alarm;
DROP TABLE alarm;
ALTER TABLE alarm_of_unit_or_order RENAME TO alarm;
CREATE UNIQUE INDEX alarm_once ON alarm (coalesce(unit, 0), coalesce(po, 0), kind, detail);
CREATE INDEX alarm_unseen ON alarm (id) WHERE seen_at_ms IS NULL;

-- Since schema 3 units log in at real brokers, which keep their own ledgers; the registry of schema 2 has no readers.
DROP TABLE cloud_identity;
DROP TABLE cloud_unit;
