#!/usr/bin/env bash
# fetch.sh: makes the broker's jars and the tool kafkactl available in .cache/kafka, once.
. "$(dirname "$0")/../rig/env.sh"

jars=$KS_CACHE/kafka/lib
tool=$KS_CACHE/kafka/kafkactl
pom=$KS_TOP/test/kafka/pom.xml

# The jars: into a directory beside, then renamed, so that a run that was cut short leaves nothing half.
if [ ! -e "$KS_CACHE/kafka/pom.xml" ] || ! cmp -s "$pom" "$KS_CACHE/kafka/pom.xml"; then
	mkdir -p "$KS_CACHE/kafka" || die "cannot write to $KS_CACHE"
	command -v mvn >/dev/null || die "mvn not found: run test/rig/deps.sh"
	log "broker: fetching Apache Kafka's jars (43 MB, once)"
	new=$KS_CACHE/kafka/lib.$$
	repository=
	[ -w "${HOME:-/nonexistent}" ] || repository="-Dmaven.repo.local=$KS_CACHE/maven"
	for attempt in 1 2 3; do
		if mvn -q -B $repository -f "$pom" dependency:copy-dependencies \
			-DincludeScope=runtime -DoutputDirectory="$new" </dev/null >"$new.log" 2>&1; then
			rm -f "$new.log"
			break
		fi
		[ $attempt -lt 3 ] || { tail -20 "$new.log"; rm -rf "$new" "$new.log"; die "Maven could not fetch the jars"; }
		log "broker: trying again"
		sleep 5
	done
	rm -rf "$jars"
	mv "$new" "$jars" || exit 1
	cp "$pom" "$KS_CACHE/kafka/pom.xml"
	rm -rf "$KS_CACHE/maven"
fi

if [ "$KS_TOP/test/kafka/kafkactl.c" -nt "$tool" ]; then
	mkdir -p "$KS_CACHE/kafka" || die "cannot write to $KS_CACHE"
	gcc -O1 -g -Wall -Wextra -Wno-unused-parameter -o "$tool.$$" "$KS_TOP/test/kafka/kafkactl.c" -lrdkafka &&
		mv "$tool.$$" "$tool" || die "could not build kafkactl"
fi
