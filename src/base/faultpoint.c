/*
 * faultpoint.c
 *		Named points where a test makes the process crash, fail or sleep.
 *
 * The setting kstream.fault_points lists what is to happen where:
 *
 *		name:crash | name:error | name:sleep=MILLISECONDS, each with an optional
 *		:N, meaning only the N-th time the point is reached by this process
 *
 * separated by commas.  A crash is SIGKILL, as from outside, so that no exit
 * code of ours runs.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/faultpoint.h"

#ifdef KSTREAM_FAULTS

#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#define KS_MAX_FAULTS 32

typedef enum KsFaultAction
{
	KS_FAULT_CRASH,
	KS_FAULT_ERROR,
	KS_FAULT_SLEEP
} KsFaultAction;

typedef struct KsFault
{
	char		name[NAMEDATALEN];
	KsFaultAction action;
	int			sleep_ms;
	int			nth;			/* 0: every time */
	int			hits;
} KsFault;

typedef struct KsFaultList
{
	int			nfaults;
	KsFault		faults[KS_MAX_FAULTS];
} KsFaultList;

static char *fault_points = NULL;
static KsFaultList active;

/* parse_fault: one "name:action[:nth]"; false if it is none. */
static bool
parse_fault(char *text, KsFault *fault)
{
	char	   *save = NULL;
	char	   *name = strtok_r(text, ":", &save);
	char	   *action = strtok_r(NULL, ":", &save);
	char	   *nth = strtok_r(NULL, ":", &save);

	if (name == NULL || action == NULL)
		return false;
	memset(fault, 0, sizeof(KsFault));
	strlcpy(fault->name, name, NAMEDATALEN);
	if (strcmp(action, "crash") == 0)
		fault->action = KS_FAULT_CRASH;
	else if (strcmp(action, "error") == 0)
		fault->action = KS_FAULT_ERROR;
	else if (strncmp(action, "sleep=", 6) == 0)
	{
		fault->action = KS_FAULT_SLEEP;
		fault->sleep_ms = atoi(action + 6);
	}
	else
		return false;
	if (nth != NULL)
	{
		fault->nth = atoi(nth);
		if (fault->nth <= 0)
			return false;
	}
	return true;
}

/* check_fault_points: parses the setting. */
static bool
check_fault_points(char **newval, void **extra, GucSource source)
{
	KsFaultList *list = ks_guc_malloc(sizeof(KsFaultList));
	char	   *copy = pstrdup(*newval);
	char	   *save = NULL;
	char	   *item;
	List	   *items = NIL;
	ListCell   *lc;

	if (list == NULL)
		return false;
	memset(list, 0, sizeof(KsFaultList));
	for (item = strtok_r(copy, ", ", &save); item != NULL; item = strtok_r(NULL, ", ", &save))
		items = lappend(items, item);
	foreach(lc, items)
	{
		item = pstrdup(lfirst(lc));
		if (list->nfaults == KS_MAX_FAULTS || !parse_fault(item, &list->faults[list->nfaults]))
		{
			GUC_check_errdetail("\"%s\" is not of the form name:crash|error|sleep=ms[:nth].",
								(char *) lfirst(lc));
			ks_guc_free(list);
			return false;
		}
		list->nfaults++;
	}
	*extra = list;
	return true;
}

/* assign_fault_points: the new list starts counting from zero. */
static void
assign_fault_points(const char *newval, void *extra)
{
	active = *(KsFaultList *) extra;
}

/* ks_fault_hit: does what the setting says for this point, if anything. */
void
ks_fault_hit(const char *name)
{
	for (int i = 0; i < active.nfaults; i++)
	{
		KsFault    *fault = &active.faults[i];

		if (strcmp(fault->name, name) != 0)
			continue;
		fault->hits++;
		if (fault->nth != 0 && fault->hits != fault->nth)
			continue;
		switch (fault->action)
		{
			case KS_FAULT_CRASH:
				kill(getpid(), SIGKILL);
				pg_usleep(1000000L);
				break;
			case KS_FAULT_ERROR:
				ereport(ERROR,
						(errcode(ERRCODE_INTERNAL_ERROR),
						 errmsg("fault point \"%s\"", name)));
				break;
			case KS_FAULT_SLEEP:
				for (int ms = 0; ms < fault->sleep_ms; ms += 10)
				{
					CHECK_FOR_INTERRUPTS();
					pg_usleep(10000L);
				}
				break;
		}
	}
}

/* ks_fault_init: defines the setting. */
void
ks_fault_init(void)
{
	DefineCustomStringVariable("kstream.fault_points",
							   "Lists the points where a test makes the process crash, fail or sleep.",
							   "name:crash|error|sleep=ms[:nth], separated by commas.",
							   &fault_points, "",
							   PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   check_fault_points, assign_fault_points, NULL);
}

#else

/* ks_fault_init: nothing to do in builds without fault points. */
void
ks_fault_init(void)
{
}

#endif							/* KSTREAM_FAULTS */
