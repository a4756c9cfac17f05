-- A literal or parameter is sealed for the session and lives as long as it; only a column makes it last.
\set SHOW_CONTEXT never
DO $$ BEGIN PERFORM sealvec.create_key_ring('literals'); END $$;
CREATE TABLE literals (id int, e sealvec(3, literals));

-- What a literal prints is sealed, and in this session input again.
SELECT '[1,2,3]'::sealvec::text LIKE 'sealvec1.%' AS sealed, '[1,2,3]'::sealvec::text LIKE '%1,2,3%' AS plain;
SELECT '[1,2,3]'::sealvec::text AS session_text \gset
SELECT sealvec.open(:'session_text'::sealvec);
INSERT INTO literals VALUES (1, :'session_text') RETURNING sealvec.open(e);
SELECT '[1,2,3]'::sealvec(3, literals)::text AS column_text \gset
INSERT INTO literals VALUES (2, :'column_text') RETURNING sealvec.open(e);

-- White space around a sealed text does no harm, anything else does.
SELECT sealvec.same((E' \n' || :'column_text' || E'\t')::sealvec, '[1,2,3]');
SELECT (:'column_text' || 'A')::sealvec;
SELECT substr(:'column_text', 1, 40)::sealvec;
SELECT ('sealvec2' || substr(:'column_text', 9))::sealvec;
SELECT 'sealvec1.'::sealvec;

-- A flipped bit in nonce, ciphertext or tag opens nothing, and nor does a header that names another ring or length.
CREATE FUNCTION flipped(value sealvec, byte int) RETURNS sealvec LANGUAGE plpgsql AS $$
DECLARE bytes bytea := sealvec.type_send(value);
BEGIN
    bytes := set_byte(bytes, byte, get_byte(bytes, byte) # 1);
    RETURN ('sealvec1.' || rtrim(translate(encode(bytes, 'base64'), E'+/\n', '-_'), '='))::sealvec;
END $$;
SELECT byte, sealvec.open(flipped(e, byte)) FROM literals, (VALUES (12), (40), (60)) v (byte) WHERE id = 2 AND byte = 12;
SELECT byte, sealvec.open(flipped(e, byte)) FROM literals, (VALUES (12), (40), (60)) v (byte) WHERE id = 2 AND byte = 40;
SELECT byte, sealvec.open(flipped(e, byte)) FROM literals, (VALUES (12), (40), (60)) v (byte) WHERE id = 2 AND byte = 60;
SELECT flipped(e, 0) IS NULL FROM literals WHERE id = 2; -- version
SELECT flipped(e, 1) IS NULL FROM literals WHERE id = 2; -- kind
SELECT flipped(e, 2) IS NULL FROM literals WHERE id = 2; -- dimensions
-- The same value again with a flipped bit is not taken for the one just opened.
SELECT sealvec.same(a.e, b.e) FROM literals a, literals b WHERE a.id = 2 AND b.id = 2;
SELECT sealvec.same(e, e), sealvec.same(e, flipped(e, 60)) FROM literals WHERE id = 2;

-- Another session can do nothing with it, and says so.
\c
\set SHOW_CONTEXT never
SELECT sealvec.dims(:'session_text'::sealvec);
SELECT sealvec.open(:'session_text'::sealvec);
INSERT INTO literals VALUES (3, :'session_text');
SELECT e <-> :'session_text' FROM literals WHERE id = 1;
-- The column's own text lives on.
INSERT INTO literals VALUES (3, :'column_text') RETURNING sealvec.open(e);
SELECT id, e <-> '[1,2,4]' AS distance FROM literals ORDER BY id;
DROP TABLE literals;
DROP FUNCTION flipped;
