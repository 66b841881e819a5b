-- Schema 6: who works here, and what they did.
--
-- Rules that the tables themselves hold, whoever writes:
--  * a person keeps the name that stands in the records, and is never removed; somebody who leaves is switched off;
--  * the first person is an admin, and the last active admin stays one;
--  * the audit log only grows, one row after the other.

-- pin and badge are Argon2id in PHC form, over what the station key makes of the PIN or the badge: without the passphrase
-- nothing can be tried against them. badge_mark finds the person of a badge. seal is a MAC under the station key over
-- everything that decides what the person may do, so that an editor of the file can't raise anybody.
CREATE TABLE person (
    id              INTEGER PRIMARY KEY,
    name            TEXT    NOT NULL UNIQUE COLLATE NOCASE CHECK (length(name) BETWEEN 1 AND 64 AND name = trim(name)),
    role            TEXT    NOT NULL CHECK (role IN ('technician', 'qa', 'vendor', 'admin')),
    pin             TEXT    NOT NULL CHECK (pin LIKE '$argon2id$%'),
    badge           TEXT    CHECK (badge LIKE '$argon2id$%'),
    badge_mark      BLOB    UNIQUE CHECK (length(badge_mark) = 16),
    active          INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
    -- Wrong PINs and badges since the last right one, counted before each is looked at.
    failures        INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
    locked_until_ms INTEGER NOT NULL DEFAULT 0,
    created_at_ms   INTEGER NOT NULL,
    seal            BLOB    NOT NULL CHECK (length(seal) = 32),
    CHECK ((badge IS NULL) = (badge_mark IS NULL))
) STRICT;
CREATE TRIGGER person_no_delete BEFORE DELETE ON person
BEGIN SELECT RAISE(ABORT, 'a person is switched off, never removed'); END;
CREATE TRIGGER person_identity BEFORE UPDATE OF id, name, created_at_ms ON person
WHEN NEW.id IS NOT OLD.id OR NEW.name IS NOT OLD.name OR NEW.created_at_ms IS NOT OLD.created_at_ms
BEGIN SELECT RAISE(ABORT, 'a person keeps the name that stands in the records'); END;
CREATE TRIGGER person_first_is_admin BEFORE INSERT ON person
WHEN NEW.role <> 'admin' AND NOT EXISTS (SELECT 1 FROM person WHERE role = 'admin' AND active)
BEGIN SELECT RAISE(ABORT, 'the first person is an admin'); END;
CREATE TRIGGER person_last_admin BEFORE UPDATE OF role, active ON person
WHEN OLD.role = 'admin' AND OLD.active AND (NEW.role <> 'admin' OR NOT NEW.active)
  AND (SELECT count(*) FROM person WHERE role = 'admin' AND active) = 1
BEGIN SELECT RAISE(ABORT, 'the last active admin stays'); END;

-- chain = SHA-256(chain of the row before ‖ this row). The end of this chain, and of unit_event's, is kept in meta under the
-- station key ('audit-head', 'event-head'), so that a tail that was cut off is found.
-- role: what the person was then; 'open' on a station without people, 'none' for somebody who did not get in, 'station' for the
-- program itself.
CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY CHECK (seq > 0),
    at_ms   INTEGER NOT NULL,
    person  TEXT    NOT NULL,
    role    TEXT    NOT NULL CHECK (role IN ('technician', 'qa', 'vendor', 'admin', 'open', 'none', 'station')),
    action  TEXT    NOT NULL CHECK (length(action) BETWEEN 1 AND 64),
    subject TEXT    NOT NULL,
    detail  TEXT    NOT NULL CHECK (json_valid(detail)),
    chain   BLOB    NOT NULL CHECK (length(chain) = 32)
) STRICT;
CREATE INDEX audit_by_action ON audit (action, at_ms);
CREATE TRIGGER audit_follows BEFORE INSERT ON audit WHEN NEW.seq IS NOT coalesce((SELECT max(seq) FROM audit), 0) + 1
BEGIN SELECT RAISE(ABORT, 'audit rows follow one another'); END;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
