-- Schema 3: which cloud platform each of a unit's identities lives at, so that a batch can move between platforms and a kill
-- at any point of a move is finished later. Platforms are named by the URL in the units' records; '' = the product order's.
ALTER TABLE enrolment ADD COLUMN cloud         TEXT NOT NULL DEFAULT '';
-- Where the staged generation was let in.
ALTER TABLE enrolment ADD COLUMN cloud_staged  TEXT NOT NULL DEFAULT '';
-- Where the next generation shall go, if not where the unit is.
ALTER TABLE enrolment ADD COLUMN cloud_wanted  TEXT NOT NULL DEFAULT '';
-- The end of a move: this generation is still to be retired at the platform that the unit left.
ALTER TABLE enrolment ADD COLUMN cloud_leaving TEXT NOT NULL DEFAULT '';
ALTER TABLE enrolment ADD COLUMN ck_leaving    INTEGER NOT NULL DEFAULT 0 CHECK (ck_leaving >= 0);

-- What an attempt was for: a unit in the making, or new keys for one that passed.
ALTER TABLE attempt ADD COLUMN kind TEXT NOT NULL DEFAULT 'make' CHECK (kind IN ('make', 'update'));
