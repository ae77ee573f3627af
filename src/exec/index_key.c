/*
 * index_key.c
 *		How long the key of a row may be; see index_key.h.
 *
 * The limit is one of values of variable length, which is what users can do
 * something about, with some room for others.  Many of fixed length may need more
 * than that room.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/tupmacs.h"
#include "utils/datum.h"

#include "exec/index_key.h"

/* Room for the keys in an entry: without its header and NULL bits, and an event time behind them. */
#define ENTRY_BYTES (2704 - 16 - 8)

/* See index_key.h. */
Size
ks_index_key_size(TupleTableSlot *slot, int first, int n)
{
	Size		variable = 0;
	Size		all = 0;

	for (int i = first; i < first + n; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(slot->tts_tupleDescriptor, i);
		Size		size;

		if (slot->tts_isnull[i])
			continue;
		size = attr->attlen == -1 ? toast_raw_datum_size(slot->tts_values[i]) :
			datumGetSize(slot->tts_values[i], attr->attbyval, attr->attlen);
		all = att_align_nominal(all, attr->attalign) + size;
		if (attr->attlen == -1)
			variable += size;
	}
	return all > ENTRY_BYTES ? all : variable;
}
