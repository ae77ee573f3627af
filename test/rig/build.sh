#!/usr/bin/env bash
# build.sh BUILDDIR [make arguments]: builds as the tests want it (assertions,
# fault points, warnings are errors) and installs into KS_PGROOT.
#
# The build happens in BUILDDIR, a mirror of the sources, so that a build of the
# user's in the tree and this one never mix; object files stay there, and the
# next call compiles only what changed.
. "$(dirname "$0")/env.sh"

[ $# -ge 1 ] || die "usage: build.sh BUILDDIR [make arguments]"
[ -n "${KS_PGROOT:-}" ] || die "KS_PGROOT must name a directory made by pgroot.sh"
build=$1
shift
config=$(ks_pg_config) || exit 1

# Paths, relative to the current directory, of what a build is made from.
source_files() {
	find Makefile kstream.control src sql -type f \
		\( -name '*.[ch]' -o -name '*.cpp' -o -name '*.sql' -o -name 'Makefile' -o -name '*.control' \) \
		! -name 'kstream--1.0.sql' 2>/dev/null | sort
}

# Brings the mirror up to date, touching only files that differ.
mirror_sources() {
	local file
	mkdir -p "$build/src" "$build/sql" || die "cannot write to $build"
	cd "$KS_TOP" && source_files >"$build/.sources" || exit 1
	while read -r file; do
		cmp -s "$file" "$build/$file" || { mkdir -p "$build/$(dirname "$file")" && cp "$file" "$build/$file"; } || exit 1
	done <"$build/.sources"
	cd "$build" && source_files | comm -23 - .sources | while read -r file; do
		rm -f "$file" "${file%.*}.o" "${file%.*}.d"
	done
}

export LC_ALL=C
mirror_sources
cd "$build" && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -j"$(nproc)" PG_CONFIG="$config" \
	WERROR=1 ASSERTS=1 FAULTS=1 "$@" all install
