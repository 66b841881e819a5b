-- Schema 11: the Trust view counts the units under each region certificate, and lists them.

-- The rows of this table are wide; counting a million units must not read them.
CREATE INDEX enrolment_by_anchor ON enrolment (anchor_fingerprint, unit) WHERE anchor_fingerprint IS NOT NULL;
