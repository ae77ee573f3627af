#!/usr/bin/env bash
# topic.sh BOOTSTRAP COMMAND ...: topics of a broker; see kafkactl.c for the commands:
#   list | create TOPIC PARTITIONS [CONFIG=VALUE ...] | delete TOPIC | partitions TOPIC TOTAL |
#   config TOPIC CONFIG=VALUE ... | delete-records TOPIC PARTITION BEFORE_OFFSET | ends TOPIC | wait SECONDS
. "$(dirname "$0")/../rig/env.sh"
"$(dirname "$0")/fetch.sh" || exit 1
exec "$KS_CACHE/kafka/kafkactl" "$@"
