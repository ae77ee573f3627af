#!/usr/bin/env bash
# verify.sh BOOTSTRAP CHECK [NAME=VALUE ...] [CHECK [NAME=VALUE ...]] ...
#
# Reads topics with Apache Kafka's own client, read_committed, and checks them; see
# README.md for the checks.  Ends with 0 when all is well, 1 when something is
# violated, 2 when it could not be found out.  Compiled when it is first used.
. "$(dirname "$0")/../rig/env.sh"

[ $# -ge 2 ] || die "usage: verify.sh BOOTSTRAP CHECK [NAME=VALUE ...] ..."
source=$(cd "$(dirname "$0")" && pwd)/Verify.java
jars=$KS_CACHE/kafka/lib
classes=$KS_CACHE/verify
{ mkdir -p "$classes" && [ -w "$classes" ]; } 2>/dev/null || classes=${TESTDIR:-${TMPDIR:-/tmp}/kstream-verify.$(id -u)}/verify

# Compiles into a directory beside, then renamed: several may want to at once.
if [ ! -e "$classes/Verify.class" ] || [ "$source" -nt "$classes/Verify.class" ]; then
	[ -d "$jars" ] || die "no jars in $jars: run test/kafka/fetch.sh"
	command -v javac >/dev/null || die "javac not found: run test/rig/deps.sh"
	mkdir -p "$(dirname "$classes")" && new=$(mktemp -d "$classes.XXXXXX") || exit 2
	javac -Xlint:all,-processing -Werror -cp "$jars/*" -d "$new" "$source" || { rm -rf "$new"; exit 2; }
	chmod 755 "$new"
	rm -rf "$classes"
	mv -T "$new" "$classes" 2>/dev/null || rm -rf "$new"
fi
exec java -Xmx"${KS_VERIFY_MEMORY:-512m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
	-Dfile.encoding=UTF-8 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$classes:$jars/*" Verify "$@"
