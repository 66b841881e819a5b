-- Schema 4: the lock of a finished unit.

-- Whether units are locked before they pass. Orders from before keep the way their first units were made.
ALTER TABLE product_order ADD COLUMN locks INTEGER NOT NULL DEFAULT 0 CHECK (locks IN (0, 1));
CREATE TRIGGER product_order_lock BEFORE UPDATE OF locks ON product_order WHEN NEW.locks IS NOT OLD.locks
BEGIN SELECT RAISE(ABORT, 'a product order keeps its lock'); END;
