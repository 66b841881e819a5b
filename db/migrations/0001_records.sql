-- Schema 1: what happened on the line.
--
-- Rules that the tables themselves hold, whoever writes:
--  * nothing that happened is rewritten or removed (triggers at the end);
--  * a PASS has a unit and a proof; an attempt that ended never changes;
--  * a unit has at most one live agent key and one live cloud key;
--  * blank ids and unsealed keys can't be stored.
-- Times are Unix milliseconds of the station's wall clock, which may jump; `seq` and `id` are the order of truth.

-- Facts about this database: the station key's recipe, and the like.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per process that opened the database for work. An attempt without an end that belongs to an earlier
-- session was interrupted.
CREATE TABLE session (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    station      TEXT    NOT NULL,
    version      TEXT    NOT NULL,
    opened_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE product_order (
    id                 INTEGER PRIMARY KEY,
    name               TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 16),
    model              TEXT    NOT NULL CHECK (length(model) BETWEEN 1 AND 16),
    hw_revision        TEXT    NOT NULL,
    part_number        TEXT    NOT NULL,
    quantity           INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 4294967295),
    region             INTEGER NOT NULL CHECK (region BETWEEN 1 AND 4294967295),
    suite              INTEGER NOT NULL CHECK (suite IN (1, 2)),
    cloud_url          TEXT    NOT NULL CHECK (length(cloud_url) BETWEEN 1 AND 255),
    image_sha256       TEXT    CHECK (length(image_sha256) = 64),
    -- XChaCha20-Poly1305 under the station key: 24 + 32 + 16 bytes.
    product_key_sealed BLOB    NOT NULL CHECK (length(product_key_sealed) = 72),
    created_at_ms      INTEGER NOT NULL
) STRICT;

CREATE TABLE batch (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 32),
    po            INTEGER NOT NULL REFERENCES product_order (id),
    quantity      INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 4294967295),
    state         TEXT    NOT NULL CHECK (state IN ('open', 'paused', 'closed')),
    next_serial   INTEGER NOT NULL DEFAULT 1 CHECK (next_serial > 0),
    -- Units that are not scrapped, kept by triggers, so that the quota costs one look however large the batch.
    units         INTEGER NOT NULL DEFAULT 0 CHECK (units >= 0),
    created_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX batch_by_po ON batch (po);

CREATE TABLE unit (
    id                  INTEGER PRIMARY KEY,
    uid                 BLOB    NOT NULL UNIQUE CHECK (length(uid) = 12
                                AND uid <> x'000000000000000000000000' AND uid <> x'ffffffffffffffffffffffff'),
    batch               INTEGER NOT NULL REFERENCES batch (id),
    serial              TEXT    NOT NULL UNIQUE,
    state               TEXT    NOT NULL CHECK (state IN ('arrived', 'flashing', 'stage-one', 'agent-key', 'cloud-key',
                                                          'passed', 'quarantined', 'scrapped')),
    generation          INTEGER NOT NULL DEFAULT 0,
    label_printed_at_ms INTEGER,
    supersedes          TEXT,
    created_at_ms       INTEGER NOT NULL
) STRICT;
CREATE INDEX unit_by_batch ON unit (batch, id);

CREATE TABLE attempt (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    batch         INTEGER NOT NULL REFERENCES batch (id),
    unit          INTEGER REFERENCES unit (id),
    session       INTEGER NOT NULL REFERENCES session (id),
    fixture       TEXT    NOT NULL,
    operator      TEXT    NOT NULL,
    station       TEXT    NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms   INTEGER CHECK (ended_at_ms >= started_at_ms),
    outcome       TEXT    CHECK (outcome IN ('PASS', 'FAIL', 'ERROR', 'TIMEOUT', 'ABORTED')),
    failure_code  INTEGER,
    failure       TEXT    CHECK (failure IS NULL OR json_valid(failure)),
    proof         TEXT    CHECK (proof IS NULL OR json_valid(proof)),
    CHECK ((ended_at_ms IS NULL) = (outcome IS NULL)),
    CHECK ((failure_code IS NULL) = (failure IS NULL)),
    CHECK (outcome IS NULL OR outcome <> 'PASS'
           OR (unit IS NOT NULL AND proof IS NOT NULL AND failure IS NULL
               AND proof ->> 'cloud_mac_ok' = 1 AND proof ->> 'agent_mac_ok' = 1)),
    CHECK (outcome IS NULL OR outcome = 'PASS' OR failure IS NOT NULL)
) STRICT;
CREATE INDEX attempt_by_unit ON attempt (unit, id);
CREATE INDEX attempt_by_batch ON attempt (batch, id);
CREATE INDEX attempt_running ON attempt (session) WHERE outcome IS NULL;

-- chain = SHA-256(chain of the row before ‖ this row), so that a row changed behind our back is found.
CREATE TABLE unit_event (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    unit    INTEGER NOT NULL REFERENCES unit (id),
    attempt INTEGER REFERENCES attempt (id),
    at_ms   INTEGER NOT NULL,
    kind    TEXT    NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    detail  TEXT    NOT NULL CHECK (json_valid(detail)),
    chain   BLOB    NOT NULL CHECK (length(chain) = 32)
) STRICT;
CREATE INDEX unit_event_by_unit ON unit_event (unit, seq);

-- A key is reserved before it leaves the agent, posted when the unit confirmed it, voided when it never will be
-- (or when the unit was erased before it ever proved it). A posted key is live until a newer one takes its place
-- (retired_at_ms).
CREATE TABLE key_assignment (
    id             INTEGER PRIMARY KEY,
    unit           INTEGER NOT NULL REFERENCES unit (id),
    purpose        TEXT    NOT NULL CHECK (purpose IN ('agent', 'cloud')),
    generation     INTEGER NOT NULL CHECK (generation BETWEEN 1 AND 4294967295),
    state          TEXT    NOT NULL CHECK (state IN ('reserved', 'posted', 'voided')),
    key_id         TEXT    NOT NULL CHECK (length(key_id) = 16),
    key_sealed     BLOB    NOT NULL CHECK (length(key_sealed) >= 40 + 16),
    reserved_at_ms INTEGER NOT NULL,
    settled_at_ms  INTEGER,
    void_reason    TEXT,
    retired_at_ms  INTEGER,
    UNIQUE (unit, purpose, generation),
    CHECK ((state = 'reserved') = (settled_at_ms IS NULL)),
    CHECK ((state = 'voided') = (void_reason IS NOT NULL)),
    CHECK (retired_at_ms IS NULL OR state = 'posted')
) STRICT;
CREATE UNIQUE INDEX key_assignment_one_live ON key_assignment (unit, purpose)
    WHERE state = 'posted' AND retired_at_ms IS NULL;

CREATE TABLE export (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    batch     INTEGER NOT NULL REFERENCES batch (id),
    format    TEXT    NOT NULL,
    file      TEXT    NOT NULL,
    rows      INTEGER NOT NULL CHECK (rows >= 0),
    sha256    TEXT    NOT NULL CHECK (length(sha256) = 64),
    operator  TEXT    NOT NULL,
    at_ms     INTEGER NOT NULL
) STRICT;
CREATE INDEX export_by_batch ON export (batch, id);

CREATE TABLE export_recipient (
    export      INTEGER NOT NULL REFERENCES export (id),
    fingerprint TEXT    NOT NULL,
    PRIMARY KEY (export, fingerprint)
) STRICT, WITHOUT ROWID;

CREATE TABLE export_unit (
    export INTEGER NOT NULL REFERENCES export (id),
    unit   INTEGER NOT NULL REFERENCES unit (id),
    PRIMARY KEY (unit, export)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER unit_counted AFTER INSERT ON unit
BEGIN UPDATE batch SET units = units + 1 WHERE id = NEW.batch; END;
CREATE TRIGGER unit_scrap_counted AFTER UPDATE OF state ON unit WHEN NEW.state = 'scrapped' AND OLD.state <> 'scrapped'
BEGIN UPDATE batch SET units = units - 1 WHERE id = NEW.batch; END;

-- What happened stays.
CREATE TRIGGER unit_event_no_update BEFORE UPDATE ON unit_event
BEGIN SELECT RAISE(ABORT, 'unit_event is append-only'); END;
CREATE TRIGGER unit_event_no_delete BEFORE DELETE ON unit_event
BEGIN SELECT RAISE(ABORT, 'unit_event is append-only'); END;
CREATE TRIGGER attempt_no_delete BEFORE DELETE ON attempt
BEGIN SELECT RAISE(ABORT, 'attempts are kept for ever'); END;
CREATE TRIGGER attempt_ended BEFORE UPDATE ON attempt WHEN OLD.outcome IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'an attempt that ended never changes'); END;
CREATE TRIGGER attempt_unit_once BEFORE UPDATE OF unit ON attempt
WHEN OLD.unit IS NOT NULL AND NEW.unit IS NOT OLD.unit
BEGIN SELECT RAISE(ABORT, 'an attempt belongs to one unit'); END;
CREATE TRIGGER unit_no_delete BEFORE DELETE ON unit
BEGIN SELECT RAISE(ABORT, 'units are kept for ever'); END;
CREATE TRIGGER unit_identity BEFORE UPDATE OF uid, batch, serial ON unit
WHEN NEW.uid IS NOT OLD.uid OR NEW.batch IS NOT OLD.batch OR NEW.serial IS NOT OLD.serial
BEGIN SELECT RAISE(ABORT, 'a unit keeps its id, batch and serial'); END;
CREATE TRIGGER unit_scrapped BEFORE UPDATE OF state ON unit WHEN OLD.state = 'scrapped' AND NEW.state <> 'scrapped'
BEGIN SELECT RAISE(ABORT, 'a scrapped unit stays scrapped'); END;
CREATE TRIGGER key_assignment_no_delete BEFORE DELETE ON key_assignment
BEGIN SELECT RAISE(ABORT, 'key assignments are kept for ever'); END;
CREATE TRIGGER key_assignment_way BEFORE UPDATE ON key_assignment
WHEN NEW.unit IS NOT OLD.unit OR NEW.purpose IS NOT OLD.purpose OR NEW.generation IS NOT OLD.generation
  OR NEW.key_sealed IS NOT OLD.key_sealed OR NEW.key_id IS NOT OLD.key_id
  OR (OLD.state = 'voided' AND NEW.state <> 'voided')
  OR (OLD.state = 'posted' AND NEW.state = 'reserved')
  OR (OLD.retired_at_ms IS NOT NULL AND NEW.retired_at_ms IS NOT OLD.retired_at_ms)
BEGIN SELECT RAISE(ABORT, 'a key assignment goes from reserved to posted or voided, never back'); END;
CREATE TRIGGER product_order_identity BEFORE UPDATE ON product_order
WHEN NEW.name IS NOT OLD.name OR NEW.product_key_sealed IS NOT OLD.product_key_sealed
  OR NEW.region IS NOT OLD.region OR NEW.suite IS NOT OLD.suite
  OR (OLD.image_sha256 IS NOT NULL AND NEW.image_sha256 IS NOT OLD.image_sha256)
BEGIN SELECT RAISE(ABORT, 'a product order keeps its name, key, region, suite and image'); END;
CREATE TRIGGER product_order_no_delete BEFORE DELETE ON product_order
BEGIN SELECT RAISE(ABORT, 'product orders are kept for ever'); END;
CREATE TRIGGER batch_no_delete BEFORE DELETE ON batch
BEGIN SELECT RAISE(ABORT, 'batches are kept for ever'); END;
CREATE TRIGGER export_no_delete BEFORE DELETE ON export
BEGIN SELECT RAISE(ABORT, 'exports are kept for ever'); END;
