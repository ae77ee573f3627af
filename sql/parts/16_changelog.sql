/*
 * Changelogs: what has changed in a table that kstream keeps up to date.
 *
 * A changelog is a log ordered at commit in two halves, which change places so
 * that old changes leave by truncation.  Without keep (stopped) it has no tables;
 * next_offset is where the next one begins, so that positions never come twice.
 */
CREATE TABLE kstream_catalog.changelog
(
	relation		regclass PRIMARY KEY,
	log0			regclass,
	segments0		regclass,
	log1			regclass,
	segments1		regclass,
	half			int NOT NULL DEFAULT 0 CHECK (half IN (0, 1)),
	keep			interval CHECK (keep > '0'),
	next_offset		bigint NOT NULL DEFAULT 0,
	CHECK (num_nulls(log0, segments0, log1, segments1, keep) IN (0, 5))
);
COMMENT ON TABLE kstream_catalog.changelog IS 'the tables that hold the changes of a table, and how long they are kept';
