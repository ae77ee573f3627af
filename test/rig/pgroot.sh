#!/usr/bin/env bash
# pgroot.sh ROOT: a private copy of the PostgreSQL installation under ROOT.
#
# The server finds its library and share directories relative to its own
# program file, so a copy of the programs, with links to everything else, is an
# installation of its own: the extension goes into it without rights on the
# system, and two checkouts can be tested at the same time.  The copy's
# pg_config is ROOT/<bindir>/pg_config; env.sh uses it when KS_PGROOT=ROOT.
. "$(dirname "$0")/env.sh"

[ $# -eq 1 ] || die "usage: pgroot.sh ROOT"
root=$1
config=$(command -v "${PG_CONFIG:-pg_config}") || die "pg_config not found: run test/rig/deps.sh"
bin=$("$config" --bindir)
lib=$("$config" --pkglibdir)
share=$("$config" --sharedir)

# Links every entry of a directory, but nothing of kstream's.
link_entries() {
	local entry
	mkdir -p "$root$1"
	for entry in "$1"/*; do
		case $(basename "$entry") in
			kstream* | extension) ;;
			*) [ ! -e "$entry" ] || ln -sfn "$entry" "$root$1/" ;;
		esac
	done
}

mkdir -p "$root$bin" && cp -pL "$bin"/* "$root$bin/" || die "cannot copy the programs of $bin"
link_entries "$lib"
link_entries "$share"
link_entries "$share/extension"
for dir in "$("$config" --includedir-server)" "$("$config" --pkgincludedir)" "$("$config" --includedir)"; do
	if [ -d "$dir" ] && [ ! -e "$root$dir" ]; then
		mkdir -p "$(dirname "$root$dir")"
		ln -sfn "$dir" "$root$dir"
	fi
done
