/*
 * crashes.c
 *		Queries that take the server down: a pause before they run again.
 *
 * A query that makes its worker crash, by a C function of the user's, say, would
 * take the server down again as soon as it is up, and nobody could connect to
 * drop it.  So when the server has crashed some times in a row just after workers
 * were started, they are started after a pause.
 *
 * What is remembered must outlive the shared memory of the server, which is made
 * anew after a crash: it is in a page that the postmaster maps once and all its
 * children inherit.  Only the launcher, and the postmaster while it has no
 * children, write there.
 */
#include "postgres.h"

#include <sys/mman.h>

#include "base/clock.h"
#include "base/shmem.h"
#include "miscadmin.h"
#include "worker/crashes.h"

#define KS_SOON_MS 3000			/* a crash so soon after the start of workers is probably theirs */
#define KS_FREE_CRASHES 3		/* so many in a row are followed by a pause */
#define KS_PAUSE_MS 5000		/* time to connect; longer would keep all others waiting */

typedef struct KsCrashes
{
	int			in_a_row;
	TimestampTz started;		/* since when workers are started; 0: they are not */
} KsCrashes;

static KsCrashes *crashes = NULL;

/* crashes_size: what is in shared memory would be lost. */
static Size
crashes_size(void)
{
	return 0;
}

/* server_starts: called when shared memory is made, at the start and after each crash. */
static void
server_starts(void)
{
	if (crashes == NULL || IsUnderPostmaster || crashes->started == 0)
		return;
	if (ks_clock_now() < TimestampTzPlusMilliseconds(crashes->started, KS_SOON_MS))
		crashes->in_a_row++;
	else
		crashes->in_a_row = 0;
	crashes->started = 0;
}

/* ks_crashes_init: in the postmaster.  Without the page there are no pauses. */
void
ks_crashes_init(void)
{
	void	   *page;

	if (!process_shared_preload_libraries_in_progress)
		return;
	page = mmap(NULL, sizeof(KsCrashes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return;
	crashes = page;
	ks_shmem_register(crashes_size, server_starts);
}

/* ks_crashes_pause_ms: see crashes.h. */
int
ks_crashes_pause_ms(int *in_a_row)
{
	if (crashes == NULL || crashes->in_a_row < KS_FREE_CRASHES)
		return 0;
	*in_a_row = crashes->in_a_row;
	return KS_PAUSE_MS;
}

/* ks_crashes_note_start: see crashes.h. */
void
ks_crashes_note_start(void)
{
	if (crashes != NULL && crashes->started == 0)
		crashes->started = ks_clock_now();
}
