-- Bad input is refused with SQLSTATE, message, detail and hint, leaves nothing half-written and quotes no element.
\set SHOW_CONTEXT never
DO $$ BEGIN PERFORM sealvec.create_key_ring('bad_a'); PERFORM sealvec.create_key_ring('bad_b');
    PERFORM sealvec.create_key_ring('bad_client', kek => sha256('a key that only the client holds')); END $$;
CREATE TABLE bad_input (id int, e sealvec(3, bad_a));
CREATE TABLE bad_other (id int, e sealvec(3, bad_b));
-- Runs a statement that must fail, and says how it did; a subtransaction, so all of it must be undone.
CREATE FUNCTION refusal(statement text, OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    message := 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END $$;
\x on
\t on
-- text
SELECT v, refusal.* FROM unnest(ARRAY['', '1,2,3', '[1,2,3', '[1,2,]', '[1,,3]', '[1,2,3]]', '[1,2,3}', '[1,2 3]', '[1,2,three]', '[1,2,0x3]',
    '[1,2,"3"]', '[NaN,2,3]', '[1,Infinity,3]', '[1,2,-inf]', '[1,4e38,3]', '[]', '{}', '[1,2]', '[1,2,3,4]', 'sealvec1.AAAA', 'sealvec1.!']) v,
    refusal(format('INSERT INTO bad_input VALUES (0, ''[1,1,1]''), (1, %L)', v));
-- the limit
SELECT refusal.* FROM refusal('INSERT INTO bad_input VALUES (1, ''[' || repeat('1,', 16000) || '1]'')');
SELECT refusal.* FROM refusal('INSERT INTO bad_input SELECT 1, array_agg(i) FROM generate_series(1, 16001) i');
-- arrays
SELECT v, refusal.* FROM unnest(ARRAY['{1,2}', '{}', '{1,NULL,3}', '{{1,2,3}}', '{1,NaN,3}', '{1,2,-Infinity}']) v,
    refusal(format('INSERT INTO bad_input VALUES (1, %L::real[])', v));
SELECT v, refusal.* FROM unnest(ARRAY['{1,2}', '{}', '{1,NULL,3}', '{{1,2,3}}', '{1,NaN,3}', '{1,2,-Infinity}', '{1,4e38,3}']) v,
    refusal(format('INSERT INTO bad_input VALUES (1, %L::float8[])', v));
SELECT v, refusal.* FROM unnest(ARRAY['{1,NaN,3}', '{1,2,-Infinity}', '{1,4e38,3}']) v,
    refusal(format('INSERT INTO bad_input VALUES (1, %L::numeric[])', v));
-- binary: of another length, with elements that are no numbers, empty, and what is not a value at all
CREATE PROCEDURE receive(field bytea) LANGUAGE plpgsql AS $$
DECLARE file text := current_setting('data_directory') || '/bad_input_receive';
BEGIN
    EXECUTE format('COPY (SELECT 100, %L::bytea) TO %L (FORMAT binary)', field, file);
    EXECUTE format('COPY bad_input FROM %L (FORMAT binary)', file);
END $$;
SELECT v, refusal.* FROM unnest(ARRAY['\x', '\x00', '\x00030000', '\x00000000', '\x000300003f8000003f800000', '\x000300003f8000003f8000007fc00000',
    '\x000300003f8000003f800000ff800000', '\x000200003f8000003f800000', '\x01010300', '\x0201030000000000',
    -- floats as they lie in the client's memory, of 4 and 8 bytes
    '\xcdcccc3dcdcc4c3e9a99993e', '\x9a9999999999b93f9a9999999999c93f333333333333d33f']) v,
    refusal(format('CALL receive(%L)', v));
-- an array as it is, which COPY does not cast; `array_send` writes what drivers write
SELECT v, refusal.* FROM unnest(ARRAY['{1,2}', '{}', '{1,NULL,3}', '{{1,2,3}}', '{1,NaN,3}', '{1,2,-Infinity}']) v,
    refusal(format('CALL receive(array_send(%L::float4[]))', v));
SELECT refusal.* FROM refusal($$CALL receive(array_send('{1,4e38,3}'::float8[]))$$);
SELECT refusal.* FROM refusal($$CALL receive(array_send('{1,2,3}'::int[]))$$);
SELECT refusal.* FROM refusal($$CALL receive(substr(array_send('{1,2,3}'::float4[]), 1, 40))$$);
SELECT refusal.* FROM refusal($$CALL receive(array_send('{1,2,3}'::float4[]) || '\x00')$$);
SELECT refusal.* FROM refusal($$CALL receive(substr(sealvec.type_send('[1,2,3]'), 1, 60))$$);
SELECT refusal.* FROM refusal($$CALL receive(sealvec.type_send('[1,2,3]') || '\x00')$$);
SELECT refusal.* FROM refusal($$CALL receive(set_byte(sealvec.type_send('[1,2,3]'), 0, 2))$$); -- a later format
SELECT refusal.* FROM refusal($$CALL receive(set_byte(sealvec.type_send('[1,2,3]'), 1, 1))$$); -- a session value as a column value
SELECT refusal.* FROM refusal($$CALL receive(set_byte(sealvec.type_send('[1,2,3]'), 40, get_byte(sealvec.type_send('[1,2,3]'), 40) # 1))$$);
-- type modifiers
SELECT v, refusal.* FROM unnest(ARRAY['', '(3)', '(bad_a, 3)', '(0, bad_a)', '(-1, bad_a)', '(16001, bad_a)', '(3.5, bad_a)', '(3, no_such_ring)',
    '(3, 0)', '(3, 131072)', '(3, bad_a, 1)', '(99999999999999999999, bad_a)']) v,
    refusal(format('CREATE TABLE bad_new (e sealvec%s)', v));
-- A ring that this database does not know yet is one that the restore brings later; until then nothing can be sealed for it.
CREATE TABLE bad_unknown (e sealvec(3, 1));
SELECT refusal.* FROM refusal($$INSERT INTO bad_unknown VALUES ('[1,2,3]')$$);
SELECT refusal.message ~ '^expected a value sealed by key ring number 1, not by key ring "bad_a"$' AS refused, refusal.state
    FROM refusal($$INSERT INTO bad_unknown SELECT '[1,2,3]'::sealvec(3, bad_a)$$);
-- another ring, other dimensions
INSERT INTO bad_other VALUES (1, '[1,2,3]');
SELECT refusal.* FROM refusal('INSERT INTO bad_input SELECT * FROM bad_other');
SELECT refusal.* FROM refusal('INSERT INTO bad_input SELECT 1, e::text::sealvec FROM bad_other');
SELECT refusal.* FROM refusal('SELECT e::sealvec(4, bad_b) FROM bad_other');
SELECT refusal.* FROM refusal('UPDATE bad_other SET e = ''[1,2]''');
-- What the hint says works.
INSERT INTO bad_input SELECT 9, sealvec.open(e) FROM bad_other RETURNING id, sealvec.open(e);
-- a locked ring: what is sealed for it passes, anything else waits
CREATE TABLE bad_locked (e sealvec(3, bad_client));
SELECT sealvec.unlock('bad_client', sha256('a key that only the client holds')) IS NOT NULL;
INSERT INTO bad_locked VALUES ('[1,2,3]');
SELECT sealvec.lock('bad_client') IS NOT NULL;
SELECT refusal.* FROM refusal($$INSERT INTO bad_locked VALUES ('[1,2,3]')$$);
SELECT refusal.* FROM refusal($$SELECT sealvec.open(e) FROM bad_locked$$);
SELECT refusal.* FROM refusal($$SELECT e <-> '[1,2,3]' FROM bad_locked$$);
SELECT refusal.* FROM refusal($$INSERT INTO bad_locked SELECT * FROM bad_locked$$);
SELECT refusal.* FROM refusal($$INSERT INTO bad_locked SELECT e::text::sealvec FROM bad_locked$$);
-- Who asks is told, from Postgres 16 on, and the statement goes on; before, and for what is not about the text, it ends.
CREATE FUNCTION told(value text, type text, OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('server_version_num')::int >= 160000 THEN
        EXECUTE 'SELECT sql_error_code, message, detail, hint FROM pg_input_error_info($1, $2)' USING value, type INTO state, message, detail, hint;
    ELSE
        SELECT r.state, nullif(r.message, 'accepted'), r.detail, r.hint INTO state, message, detail, hint
        FROM refusal(format('SELECT %L::%s', value, type)) r;
        IF state !~ '^(22|54)' THEN
            EXECUTE format('SELECT %L::%s', value, type);
        END IF;
    END IF;
END $$;
SELECT v, told.* FROM unnest(ARRAY['[1,2,3]', '[1,2,three]', '[1,NaN,3]', '[1,4e38,3]', '[]', '[1,2]', 'sealvec1.AAAA']) v, told(v, 'sealvec(3,bad_a)');
SELECT told.* FROM told('[' || repeat('1,', 16000) || '1]', 'sealvec');
SELECT told.* FROM told('{"[1,2,3]","[1,2]"}', 'sealvec(3,bad_a)[]');
SELECT told.* FROM bad_other, told(e::text, 'sealvec(3,bad_a)');
SELECT refusal.* FROM refusal($$SELECT told('[1,2,3]', 'sealvec(3,bad_client)')$$);
\t off
\x off
SELECT id, sealvec.open(e) FROM bad_input ORDER BY id;
SELECT count(*), sum(sealvec.dims(e)) FROM bad_locked;

-- In COPY, too: nothing is kept, and the context shows the place with the digits blanked.
\set SHOW_CONTEXT always
COPY bad_input FROM stdin;
1	[1,2,3]
2	[31415,nan,27182]
\.
COPY bad_input FROM stdin;
1	[1,2,3]
2	[31415,27182]
\.
-- A line that fails as a whole is quoted by Postgres itself, as THREAT_MODEL says; in binary it is not.
COPY bad_input FROM stdin;
1	[31415,27182,14142]	2
\.
COPY bad_input FROM stdin (FORMAT csv);
1,"[31415,27182,14142]",2
\.
SELECT current_setting('data_directory') || '/bad_input_binary' AS file \gset
COPY (SELECT 1, '[31415,27182,14142]'::sealvec, 2) TO :'file' (FORMAT binary);
COPY bad_input FROM :'file' (FORMAT binary);
\set SHOW_CONTEXT never
-- From Postgres 17 on COPY may leave such rows out; before, somebody else does.
CREATE FUNCTION copy_what_is_good() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    file text := current_setting('data_directory') || '/bad_input_lines';
BEGIN
    EXECUTE format($copy$COPY (VALUES (71, '[1,2,3]'), (72, '[1,2]'), (73, '[1,NaN,3]'), (74, '[1,2,three]'), (75, '{4,5,6}')) TO %L$copy$, file);
    IF current_setting('server_version_num')::int >= 170000 THEN
        EXECUTE format('COPY bad_input FROM %L (ON_ERROR ignore)', file);
    ELSE
        INSERT INTO bad_input VALUES (71, '[1,2,3]'), (75, '{4,5,6}');
    END IF;
    RETURN (SELECT string_agg(id || ' ' || sealvec.open(e)::text, ', ' ORDER BY id) FROM bad_input WHERE id > 70);
END $$;
SET client_min_messages = warning;
SELECT copy_what_is_good();
RESET client_min_messages;
DELETE FROM bad_input WHERE id > 70;
SELECT count(*) FROM bad_input;
-- A cursor that was open before the mistake stays good.
BEGIN;
DECLARE c CURSOR FOR SELECT id, e <-> '[1,2,3]' AS distance FROM bad_other ORDER BY 2;
SAVEPOINT s;
SELECT '[1,2,x]'::sealvec;
ROLLBACK TO s;
FETCH ALL FROM c;
COMMIT;
DROP TABLE bad_input, bad_other, bad_unknown, bad_locked;
DROP FUNCTION refusal, told, copy_what_is_good;
DROP PROCEDURE receive;
