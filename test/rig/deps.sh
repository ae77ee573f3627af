#!/usr/bin/env bash
# deps.sh [build|test]: installs what building, testing and the demo need, and
# only what is missing.  Debian and its relatives; as root, or through sudo
# where that asks for no password; otherwise it says what to install.
. "$(dirname "$0")/env.sh"

# The version of the server headers to ask for: the one that is there, else the distribution's.
pg_major() {
	if [ -n "${PG_CONFIG:-}" ] || command -v pg_config >/dev/null; then
		local found
		found=$("${PG_CONFIG:-pg_config}" --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p')
		if [ -n "$found" ] && [ -r "$("${PG_CONFIG:-pg_config}" --pgxs 2>/dev/null)" ]; then
			echo "$found"
			return
		fi
	fi
	apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -1
}

# Names of the packages that are wanted but not installed.
missing_packages() {
	local package
	for package in "$@"; do
		case "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" in
			installed) ;;
			*) echo "$package" ;;
		esac
	done
}

# True when everything is there without a package manager being asked.
have_tools() {
	local tool
	for tool in gcc g++ make perl prove kcat java javac mvn python3; do
		command -v "$tool" >/dev/null || return 1
	done
	[ -r "$("${PG_CONFIG:-pg_config}" --pgxs 2>/dev/null)" ] &&
		perl -MIPC::Run -e 1 2>/dev/null && python3 -c 'import psycopg2' 2>/dev/null &&
		echo '#include <librdkafka/rdkafka.h>' | gcc -E -x c - >/dev/null 2>&1 &&
		echo '#include <simdjson.h>' | g++ -std=c++17 -E -x c++ - >/dev/null 2>&1 &&
		{ [ "$(id -u)" != 0 ] || command -v runuser >/dev/null; }
}

if have_tools; then
	log "dependencies: all there"
	exit 0
fi
command -v apt-get >/dev/null || die "no apt-get here: install PostgreSQL with server headers, librdkafka, simdjson, gcc, g++, make, perl with IPC::Run, python3 with psycopg2, kcat, a JDK of 17 or later and Maven"

run_as_root=
if [ "$(id -u)" != 0 ]; then
	if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		run_as_root="sudo -n"
	fi
fi
# On a fresh machine the lists of packages are empty: fetch them before asking them anything.
updated=
if { [ "$(id -u)" = 0 ] || [ -n "$run_as_root" ]; } && ! apt-cache show librdkafka-dev >/dev/null 2>&1; then
	log "dependencies: fetching the lists of packages"
	$run_as_root apt-get update -qq || die "apt-get update failed"
	updated=yes
fi

major=$(pg_major)
[ -n "$major" ] || major=15
build="gcc g++ make postgresql-$major postgresql-server-dev-$major librdkafka-dev libsimdjson-dev"
jdk=openjdk-17-jdk-headless
apt-cache show "$jdk" >/dev/null 2>&1 || jdk=default-jdk-headless
test="perl libipc-run-perl python3 python3-psycopg2 kcat $jdk maven procps util-linux"
wanted=$build
[ "${1:-test}" = build ] || wanted="$build $test"
missing=$(missing_packages $wanted | tr '\n' ' ')
if [ -z "$missing" ]; then
	log "dependencies: all there"
	exit 0
fi
if [ "$(id -u)" != 0 ] && [ -z "$run_as_root" ]; then
	die "please install first:  apt-get install $missing"
fi
[ -n "$updated" ] || $run_as_root apt-get update -qq || die "apt-get update failed"

count=$(echo "$missing" | wc -w)
number=0
for package in $missing; do
	number=$((number + 1))
	log "dependencies: $package ($number of $count)"
	$run_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" \
		</dev/null >/tmp/kstream-apt.$$ 2>&1 || { tail -20 /tmp/kstream-apt.$$; rm -f /tmp/kstream-apt.$$; die "could not install $package"; }
done
rm -f /tmp/kstream-apt.$$
log "dependencies: installed"
