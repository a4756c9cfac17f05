-- The schema for functions and catalogs. Type, operators and opclasses go to @extschema@, which
-- CREATE EXTENSION names.

CREATE SCHEMA sealvec;
GRANT USAGE ON SCHEMA sealvec TO PUBLIC;
