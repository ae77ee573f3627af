CREATE FUNCTION ks_test_decode(rel regclass, format text, key_format text, keys text[], paths text[],
	key bytea, value bytea, wanted text[] DEFAULT NULL)
	RETURNS TABLE (col text, val text, sqlstate text, message text)
	LANGUAGE c AS 'ks_decode_test';
CREATE FUNCTION ks_test_key_text(rel regclass, format text, key_format text, keys text[], paths text[],
	key bytea, value bytea) RETURNS text LANGUAGE c AS 'ks_decode_test';
CREATE FUNCTION ks_test_headers(names text[], vals bytea[]) RETURNS jsonb
	LANGUAGE c AS 'ks_decode_test';
CREATE FUNCTION ks_test_speed(rel regclass, format text, key_format text, keys text[], paths text[],
	key bytea, value bytea, wanted text[], rounds int) RETURNS float8
	LANGUAGE c AS 'ks_decode_test';
CREATE FUNCTION ks_test_memory(rel regclass, format text, key_format text, keys text[], paths text[],
	key bytea, value bytea, wanted text[], rounds int) RETURNS int8
	LANGUAGE c AS 'ks_decode_test';
CREATE FUNCTION ks_test_encode(r record, include bool[] DEFAULT NULL) RETURNS bytea
	LANGUAGE c AS 'ks_decode_test';
CREATE FUNCTION ks_test_encode_record(rel regclass, format text, key_format text, keys text[], paths text[],
	what text, r record, key text DEFAULT NULL) RETURNS bytea LANGUAGE c AS 'ks_decode_test';
