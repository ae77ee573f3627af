/*
 * conf.h
 *		Which client properties may be set, by whom, and where.
 *
 * Every property of the linked librdkafka falls in exactly one class; one that
 * is in none is refused.
 */
#ifndef KS_CONF_H
#define KS_CONF_H

#include "postgres.h"
#include "nodes/pg_list.h"

typedef enum KsPropertyClass
{
	KS_PROP_UNKNOWN,
	KS_PROP_ALLOWED,			/* anybody who may set options of the server */
	KS_PROP_SECRET,				/* user mapping only */
	KS_PROP_SERVER_FILE,		/* needs pg_read_server_files */
	KS_PROP_SUPERUSER,			/* weakens security: superuser only */
	KS_PROP_FIXED,				/* set by kstream itself */
	KS_PROP_FORBIDDEN			/* runs code, opens listeners, writes files, breaks the process */
} KsPropertyClass;

/* name is spelled with '_' for '.', as in options. */
extern KsPropertyClass ks_property_class(const char *option_name);

/* Validates options of a SERVER / USER MAPPING (list of DefElem); errors with hints. */
extern void ks_validate_server_options(List *options);
extern void ks_validate_user_mapping_options(List *options);

#endif							/* KS_CONF_H */
