/*
 * conf.c
 *		Which options a SERVER and a USER MAPPING may have: the validator.
 *
 * Options are client properties spelled with '_' for '.'.  What may be set by
 * whom is decided by the class of the property (property.c); the value is
 * checked by the library itself, on a scratch configuration, but only for
 * classes that may be set at all: merely setting some others runs code.
 * Neither secrets nor the library's text about them appear in an error.
 */
#include "postgres.h"

#include "kafka/client.h"
#include "kafka/property.h"

#include "catalog/pg_authid.h"
#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/varlena.h"

#define KS_NEAR_MAX_DISTANCE	6	/* letters that a near name may differ in */
#define KS_NEAR_MAX_NAMES		5
#define KS_OPTION_MAX_LEN		255	/* longest name looked up for near ones */

/* Distance of a property's option name from a name, or more than max. */
static int
ks_name_distance(const char *name, const char *candidate, int max)
{
	return varstr_levenshtein_less_equal(name, strlen(name), candidate, strlen(candidate),
										 1, 1, 1, max, true);
}

/* Options that nearly have this name, nearest first, for a hint; "" if none. */
static char *
ks_near_names(const char *name, bool mapping)
{
	StringInfoData buf;
	int			count;
	const KsProperty *table = ks_property_table(&count);
	int			max = Min(KS_NEAR_MAX_DISTANCE, (int) strlen(name) / 3);
	int			found = 0;

	initStringInfo(&buf);
	if (strlen(name) > KS_OPTION_MAX_LEN)
		return buf.data;
	for (int distance = 0; distance <= max && found < KS_NEAR_MAX_NAMES; distance++)
	{
		for (int i = 0; i < count && found < KS_NEAR_MAX_NAMES; i++)
		{
			char	   *candidate;

			if (!ks_property_settable(table[i].class) ||
				(table[i].class == KS_PROP_SECRET) != mapping)
				continue;
			candidate = ks_property_option_name(&table[i]);
			if (ks_name_distance(name, candidate, max) == distance)
				appendStringInfo(&buf, "%s%s", found++ > 0 ? ", " : "", candidate);
			pfree(candidate);
		}
	}
	return buf.data;
}

/* Refuses an option that is no property we know. */
static void
ks_refuse_unknown(const char *name, bool mapping)
{
	char	   *near = ks_near_names(name, mapping);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 *near ? errhint("Options with a similar name: %s.", near) :
			 errhint("Options are properties of librdkafka, spelled with \"_\" for \".\".")));
}

/* Refuses an option that is in the wrong kind of object. */
static void
ks_check_place(const KsProperty *prop, const char *name, bool mapping)
{
	if (prop->class == KS_PROP_SECRET && !mapping)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" is a secret and does not belong to a server", name),
				 errdetail("Options of a server can be read by everybody."),
				 errhint("Put it into CREATE USER MAPPING ... OPTIONS (%s ...).", name)));
	if (prop->class != KS_PROP_SECRET && mapping)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" does not belong to a user mapping", name),
				 errhint("Put it into CREATE SERVER ... OPTIONS (%s ...).", name)));
}

/* Refuses an option that the current user, or nobody, may set. */
static void
ks_check_class(const KsProperty *prop, const char *name)
{
	switch (prop->class)
	{
		case KS_PROP_FIXED:
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" cannot be set", name),
					 errdetail("kstream sets this property itself.")));
			break;
		case KS_PROP_UNKNOWN:
		case KS_PROP_FORBIDDEN:
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" is not allowed", name),
					 errdetail("The property could run code, open ports or files, or harm the server process.")));
			break;
		case KS_PROP_SERVER_FILE:
			if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("permission denied to set option \"%s\"", name),
						 errdetail("It makes the server read a file, for which one must be a member of pg_read_server_files."),
						 errhint("The options that end in _pem take the contents instead of a file name.")));
			break;
		case KS_PROP_SUPERUSER:
			if (!superuser())
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						 errmsg("permission denied to set option \"%s\"", name),
						 errdetail("Only superusers may set it.")));
			break;
		case KS_PROP_ALLOWED:
		case KS_PROP_SECRET:
			break;
	}
}

/* Raises the error for a value that is no good; detail may be NULL. */
static void
ks_refuse_value(const KsProperty *prop, const char *name, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value for option \"%s\"", name),
			 detail && prop->class != KS_PROP_SECRET ? errdetail("%s", detail) : 0));
}

/* Bounds of ours, narrower than the library's. */
static void
ks_check_bounds(const KsProperty *prop, const char *name, const char *value)
{
	char	   *end;
	long long	number;

	if (prop->min == 0 && prop->max == 0)
		return;
	errno = 0;
	number = strtoll(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || number < prop->min || number > prop->max)
		ks_refuse_value(prop, name,
						psprintf("It must be between " INT64_FORMAT " and " INT64_FORMAT ".",
								 prop->min, prop->max));
}

/* SASL mechanisms: not Kerberos, whose implementation runs commands. */
static void
ks_check_mechanism(const KsProperty *prop, const char *name, const char *value)
{
	static const char *const known[] = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"};

	if (strcmp(prop->name, "sasl.mechanism") != 0 && strcmp(prop->name, "sasl.mechanisms") != 0)
		return;
	for (int i = 0; i < lengthof(known); i++)
	{
		if (strcmp(value, known[i]) == 0)
			return;
	}
	ks_refuse_value(prop, name, "It must be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.");
}

/* Asks the library whether it takes the value. */
static void
ks_check_with_library(const KsProperty *prop, const char *name, const char *value)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		errstr[512];
	rd_kafka_conf_res_t res;

	res = rd_kafka_conf_set(conf, prop->name, value, errstr, sizeof(errstr));
	rd_kafka_conf_destroy(conf);
	if (res == RD_KAFKA_CONF_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" is not supported by librdkafka %s", name,
						rd_kafka_version_str())));
	if (res != RD_KAFKA_CONF_OK)
		ks_refuse_value(prop, name, errstr);
}

/* Checks one option of a SERVER or a USER MAPPING. */
static void
ks_validate_option(DefElem *def, bool mapping)
{
	const KsProperty *prop = ks_property_find(def->defname);
	char	   *value;

	if (prop == NULL)
		ks_refuse_unknown(def->defname, mapping);
	if (!ks_property_settable(prop->class))
		ks_check_class(prop, def->defname);
	ks_check_place(prop, def->defname, mapping);
	ks_check_class(prop, def->defname);

	value = defGetString(def);
	ks_check_bounds(prop, def->defname, value);
	ks_check_mechanism(prop, def->defname, value);
	ks_check_with_library(prop, def->defname, value);
}

/* Value of an option in a list, or NULL. */
static const char *
ks_option_value(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst(lc);

		if (strcmp(def->defname, name) == 0)
			return defGetString(def);
	}
	return NULL;
}

/* Warns of a password that would cross the net in the clear. */
static void
ks_warn_clear_password(List *options)
{
	const char *protocol = ks_option_value(options, "security_protocol");
	const char *mechanism = ks_option_value(options, "sasl_mechanism");

	if (mechanism == NULL)
		mechanism = ks_option_value(options, "sasl_mechanisms");
	if (protocol && mechanism && strcmp(mechanism, "PLAIN") == 0 &&
		pg_strcasecmp(protocol, "sasl_plaintext") == 0)
		ereport(WARNING,
				(errmsg("passwords will be sent to the Kafka broker in the clear"),
				 errhint("Use security_protocol 'sasl_ssl', or a SCRAM mechanism.")));
}

/* Validates the options of a SERVER. */
void
ks_validate_server_options(List *options)
{
	ListCell   *lc;

	foreach(lc, options)
		ks_validate_option(lfirst(lc), false);
	ks_warn_clear_password(options);
}

/* Validates the options of a USER MAPPING. */
void
ks_validate_user_mapping_options(List *options)
{
	ListCell   *lc;

	foreach(lc, options)
		ks_validate_option(lfirst(lc), true);
}
