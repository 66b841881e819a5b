-- Schema 2: what the agent knows of each unit (docs/protocol.md, agent and cloud rules), and the cloud registry.

-- One row per unit that ever asked for a key. Generations point into key_assignment; 0 = none.
CREATE TABLE enrolment (
    unit               INTEGER PRIMARY KEY REFERENCES unit (id),
    po                 INTEGER NOT NULL REFERENCES product_order (id),
    state              TEXT    NOT NULL CHECK (state IN ('pending', 'active')),
    -- The identity key, registered by an authentic message 3.
    dik_pub            BLOB    CHECK (length(dik_pub) = 32),
    ak_cur             INTEGER NOT NULL DEFAULT 0,
    ak_next            INTEGER NOT NULL DEFAULT 0,
    -- Highest generations ever issued: they never come again, whatever was voided.
    ak_highest         INTEGER NOT NULL DEFAULT 0,
    ck_active          INTEGER NOT NULL DEFAULT 0,
    ck_staged          INTEGER NOT NULL DEFAULT 0,
    ck_highest         INTEGER NOT NULL DEFAULT 0,
    -- The staged cloud generation that lost an exchange to eviction; its message 3 earns a NACK although others of the
    -- same generation are pending.
    ck_evicted         INTEGER NOT NULL DEFAULT 0,
    -- The staged cloud record, sealed: a repeated request gets the same one.
    record_sealed      BLOB,
    firmware_version   TEXT,
    anchor_fingerprint TEXT,
    CHECK ((state = 'active') = (ak_cur > 0)),
    CHECK (ck_staged = 0 OR ck_staged > ck_active),
    CHECK ((ck_staged > 0) = (record_sealed IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Units of a batch that were issued a key and are not scrapped: the agent's own quota.
ALTER TABLE batch ADD COLUMN enrolled INTEGER NOT NULL DEFAULT 0 CHECK (enrolled >= 0);
CREATE TRIGGER enrolment_counted AFTER INSERT ON enrolment
BEGIN UPDATE batch SET enrolled = enrolled + 1 WHERE id = (SELECT batch FROM unit WHERE id = NEW.unit); END;
CREATE TRIGGER enrolment_scrap_counted AFTER UPDATE OF state ON unit
WHEN NEW.state = 'scrapped' AND OLD.state <> 'scrapped' AND EXISTS (SELECT 1 FROM enrolment WHERE unit = NEW.id)
BEGIN UPDATE batch SET enrolled = enrolled - 1 WHERE id = NEW.batch; END;

-- Exchanges that may still be asked about: at most four pending ones per unit and purpose, and the confirmed ones
-- whose message 3 may come again.
CREATE TABLE pending (
    id         INTEGER PRIMARY KEY,
    unit       INTEGER NOT NULL REFERENCES unit (id),
    purpose    INTEGER NOT NULL CHECK (purpose IN (1, 2, 3)),
    suite      INTEGER NOT NULL CHECK (suite IN (1, 2)),
    kc         BLOB    NOT NULL CHECK (length(kc) = 16),
    -- The new generation: of the agent key, or of the cloud key in purpose 3.
    generation INTEGER NOT NULL CHECK (generation > 0),
    h_frame1   BLOB    NOT NULL CHECK (length(h_frame1) = 32),
    th2        BLOB    NOT NULL CHECK (length(th2) = 32),
    n2_sealed  BLOB    NOT NULL CHECK (length(n2_sealed) = 56),
    dik_pub    BLOB    CHECK (length(dik_pub) = 32),
    record     BLOB    CHECK (length(record) = 32),
    frame2     BLOB    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('pending', 'confirmed')),
    UNIQUE (unit, h_frame1)
) STRICT;
CREATE INDEX pending_by_generation ON pending (unit, purpose, generation);
CREATE TRIGGER pending_at_most_four AFTER INSERT ON pending
WHEN (SELECT count(*) FROM pending WHERE unit = NEW.unit AND purpose = NEW.purpose AND state = 'pending') > 4
BEGIN SELECT RAISE(ABORT, 'more than four pending exchanges for one unit'); END;

-- What a person must look at: enrolments that do not add up.
CREATE TABLE alarm (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    unit   INTEGER NOT NULL REFERENCES unit (id),
    at_ms  INTEGER NOT NULL,
    kind   TEXT    NOT NULL,
    detail TEXT    NOT NULL CHECK (json_valid(detail)),
    count  INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE UNIQUE INDEX alarm_once ON alarm (unit, kind, detail);

-- The cloud registry: old | both | new, by generation. Two generations are two identities `<uid>.<generation>`.
CREATE TABLE cloud_unit (
    unit    INTEGER PRIMARY KEY REFERENCES unit (id),
    state   TEXT    NOT NULL CHECK (state IN ('none', 'both', 'new')),
    active  INTEGER NOT NULL DEFAULT 0,
    staged  INTEGER NOT NULL DEFAULT 0,
    highest INTEGER NOT NULL DEFAULT 0,
    blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
    CHECK ((state = 'both') = (staged > 0)),
    CHECK (staged = 0 OR staged = highest)
) STRICT, WITHOUT ROWID;

-- verifier = SHA-256("keywright/cloud-verifier/v1" ‖ key): keys are 256 random bits, so a plain hash reveals nothing.
CREATE TABLE cloud_identity (
    unit       INTEGER NOT NULL REFERENCES cloud_unit (unit),
    generation INTEGER NOT NULL CHECK (generation > 0),
    verifier   BLOB    NOT NULL CHECK (length(verifier) = 32),
    enabled    INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    PRIMARY KEY (unit, generation)
) STRICT, WITHOUT ROWID;
