CREATE FUNCTION kstream.step(relation text, max_rows int DEFAULT 1000, elapsed interval DEFAULT NULL)
RETURNS int
AS 'MODULE_PATHNAME', 'ks_step' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION kstream.step(text, int, interval) IS
'runs one micro-batch of at most max_rows records of a paused query in this session and transaction; returns the records consumed, 0 when nothing is left; windows close as if elapsed had passed since the last record';
