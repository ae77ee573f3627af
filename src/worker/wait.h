/*
 * wait.h
 *		kstream.wait(): waiting until queries have processed what there is.
 */
#ifndef KS_WAIT_H
#define KS_WAIT_H

#include "postgres.h"

#define KS_ERRCODE_WAIT_TIMEOUT MAKE_SQLSTATE('K', 'S', '0', '0', '1')
#define KS_ERRCODE_WAIT_STOPPED MAKE_SQLSTATE('K', 'S', '0', '0', '2')

#endif							/* KS_WAIT_H */
