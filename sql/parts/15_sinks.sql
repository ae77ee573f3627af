/*
 * What is published: a sink takes rows that were committed to its outbox and
 * puts them into a topic.
 *
 * A sink has a target, the foreign table that describes topic and format: the
 * stream itself (kind 'stream'), or a hidden one (kstream_query.out_<id>) for
 * the changes of a table, whose columns are those of the table itself.  Its outbox is a log ordered at commit, in two halves.
 */
CREATE TABLE kstream_catalog.sink
(
	id				int PRIMARY KEY,
	name			text UNIQUE,
	kind			text NOT NULL CHECK (kind IN ('stream', 'table', 'sink')),
	relation		regclass NOT NULL,
	target			regclass NOT NULL,
	outbox0			regclass NOT NULL,
	segments0		regclass NOT NULL,
	outbox1			regclass NOT NULL,
	segments1		regclass NOT NULL,
	half			int NOT NULL DEFAULT 0 CHECK (half IN (0, 1)),
	guarantee		text NOT NULL DEFAULT 'exactly_once' CHECK (guarantee IN ('exactly_once', 'at_least_once')),
	envelope		text NOT NULL DEFAULT 'upsert' CHECK (envelope IN ('upsert', 'debezium')),
	headers			text,
	settings		text[] NOT NULL DEFAULT '{}',
	incarnation		text NOT NULL,
	paused			boolean NOT NULL DEFAULT false,
	instance		text NOT NULL,
	generation		int NOT NULL DEFAULT 1,
	last_sqlstate	text,
	last_error		text,
	last_error_at	timestamptz,
	restarts		bigint NOT NULL DEFAULT 0,
	created_at		timestamptz NOT NULL DEFAULT now(),
	key_columns		text[],
	topic			text NOT NULL
);
COMMENT ON TABLE kstream_catalog.sink IS 'one row per topic that a stream or a table is published to';

CREATE TABLE kstream_catalog.published
(
	sink			int PRIMARY KEY,
	"position"		bigint NOT NULL DEFAULT 0,
	chain			bigint NOT NULL DEFAULT 0,
	partitions		int NOT NULL DEFAULT 0,
	shift			bigint NOT NULL DEFAULT 0,
	in_doubt		bigint NOT NULL DEFAULT 0,
	resync			text CHECK (resync IN ('replay', 'continue', 'republish', 'skip')),
	resync_end		bigint			-- continue: what is committed from there on is published
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE kstream_catalog.published IS 'how many records of each outbox are known to be in the topic, and a hash over all of them';
