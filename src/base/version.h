/*
 * version.h
 *		The version of the extension's catalog that this library works with.
 *
 * Equals default_version in kstream.control (test/check/ compares them).
 */
#ifndef KS_VERSION_H
#define KS_VERSION_H

#define KS_VERSION "1.0"

#endif							/* KS_VERSION_H */
