CREATE FUNCTION kstream.step(relation text, max_rows int DEFAULT 1000)
RETURNS int
AS 'MODULE_PATHNAME', 'ks_step' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION kstream.step(text, int) IS
'runs one micro-batch of at most max_rows records of a paused query in this session and transaction; returns the records consumed, 0 when nothing is left';
