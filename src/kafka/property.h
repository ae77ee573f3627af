/*
 * property.h
 *		The table of client properties and their classes.
 *
 * Internal to kafka/.
 */
#ifndef KS_PROPERTY_H
#define KS_PROPERTY_H

#include "kafka/conf.h"

typedef struct KsProperty
{
	const char *name;			/* as the library spells it */
	char		scope;			/* C consumer, P producer, A any */
	KsPropertyClass class;
	int64		min;			/* our own bounds for numbers; both 0: none */
	int64		max;
} KsProperty;

extern const KsProperty *ks_property_find(const char *option_name);
extern const KsProperty *ks_property_table(int *count);
extern char *ks_property_option_name(const KsProperty *prop);
extern bool ks_property_settable(KsPropertyClass class);

#endif							/* KS_PROPERTY_H */
