/*
 * fdw_modify.h
 *		Planner and executor callbacks for INSERT and COPY into a stream, and
 *		the refusal of UPDATE, DELETE and TRUNCATE.
 */
#ifndef KS_FDW_MODIFY_H
#define KS_FDW_MODIFY_H

#include "postgres.h"
#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"

extern void ks_add_foreign_update_targets(PlannerInfo *root, Index rtindex,
										  RangeTblEntry *target_rte, Relation target_relation);
extern List *ks_plan_foreign_modify(PlannerInfo *root, ModifyTable *plan,
									Index result_relation, int subplan_index);
extern void ks_begin_foreign_modify(ModifyTableState *mtstate, ResultRelInfo *rinfo,
									List *fdw_private, int subplan_index, int eflags);
extern void ks_begin_foreign_insert(ModifyTableState *mtstate, ResultRelInfo *rinfo);
extern TupleTableSlot *ks_exec_foreign_insert(EState *estate, ResultRelInfo *rinfo,
											  TupleTableSlot *slot, TupleTableSlot *plan_slot);
extern void ks_end_foreign_modify(EState *estate, ResultRelInfo *rinfo);
extern void ks_exec_foreign_truncate(List *rels, DropBehavior behavior, bool restart_seqs);
extern int	ks_is_foreign_rel_updatable(Relation rel);

#endif							/* KS_FDW_MODIFY_H */
