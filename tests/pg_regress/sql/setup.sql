CREATE EXTENSION sealvec;
-- Many tests show wrong keys; e2e has the test of how long those take.
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET sealvec.failed_unlock_delay_max = 0', current_database()); END $$;
