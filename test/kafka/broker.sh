#!/usr/bin/env bash
# broker.sh start|stop|status|kill|freeze|thaw|destroy DIR PORT
#
# One Apache Kafka broker in KRaft mode, listening on 127.0.0.1:PORT, with all
# its files in DIR.  start returns when the broker answers requests; started
# again on the same DIR it goes on with its data.  kill is SIGKILL, freeze and
# thaw are SIGSTOP and SIGCONT; destroy kills it and removes DIR.
#
# With KAFKA_BOOTSTRAP set, that broker is used instead: start and stop only
# check that it answers, the rest is refused.
#
# KS_BROKER_PROXY=PROXYPORT:BACKPORT (used when DIR is made): the broker listens on
# BACKPORT, too, and tells who comes there to connect to PROXYPORT, where
# test/proxy/proxy is to be started.  Its own connections to itself, and those of
# clients that know PORT, do not go through the proxy.
#
# KS_BROKER_OPTS: more options of the JVM.  KS_BROKER_CONFIG: more lines of
# server.properties (used when DIR is made).
. "$(dirname "$0")/../rig/env.sh"

[ $# -eq 3 ] || die "usage: broker.sh start|stop|status|kill|freeze|thaw|destroy DIR PORT"
verb=$1
dir=$(realpath -m "$2")
port=$3
kafka=$KS_CACHE/kafka
here=$(cd "$(dirname "$0")" && pwd)
cd /

if [ -n "${KAFKA_BOOTSTRAP:-}" ]; then
	case $verb in
		start | stop | status | destroy)
			"$here/fetch.sh" || exit 1
			exec "$kafka/kafkactl" "$KAFKA_BOOTSTRAP" wait 30
			;;
		*) die "$verb is not possible with the broker of KAFKA_BOOTSTRAP" ;;
	esac
fi

# The process id of the running broker, or nothing.
broker_pid() {
	local pid
	pid=$(cat "$dir/pid" 2>/dev/null) || return 0
	if alive "$pid" && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "$dir/server.properties"; then
		echo "$pid"
	fi
}

# How Kafka's programs are run; every file they write is in DIR.
java=(java -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData
	-Djava.io.tmpdir="$dir" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn
	-Dorg.slf4j.simpleLogger.logFile="$dir/broker.log" -Dorg.slf4j.simpleLogger.showDateTime=true
	${KS_BROKER_OPTS:-} -cp "$kafka/lib/*")

# Writes the configuration and formats the storage of a new broker.
make_broker() {
	local controller back= front= map=
	controller=$(free_port) || exit 1
	if [ -n "${KS_BROKER_PROXY:-}" ]; then
		back=,PROXIED://127.0.0.1:${KS_BROKER_PROXY#*:}
		front=,PROXIED://127.0.0.1:${KS_BROKER_PROXY%:*}
		map=,PROXIED:PLAINTEXT
	fi
	server_dir "$dir" || die "cannot make $dir"
	# A session time-out of 2 s, because a broker that was killed can come back only after it.
	as_server sh -c 'cat >"$1"' sh "$dir/server.properties" <<-EOF
		process.roles=broker,controller
		node.id=1
		controller.quorum.voters=1@127.0.0.1:$controller
		listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller$back
		advertised.listeners=PLAINTEXT://127.0.0.1:$port$front
		controller.listener.names=CONTROLLER
		inter.broker.listener.name=PLAINTEXT
		listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT$map
		log.dirs=$dir/data
		num.partitions=4
		auto.create.topics.enable=false
		offsets.topic.replication.factor=1
		offsets.topic.num.partitions=1
		transaction.state.log.replication.factor=1
		transaction.state.log.min.isr=1
		transaction.state.log.num.partitions=1
		share.coordinator.state.topic.replication.factor=1
		share.coordinator.state.topic.min.isr=1
		group.initial.rebalance.delay.ms=0
		broker.session.timeout.ms=2000
		broker.heartbeat.interval.ms=300
		log.cleaner.dedupe.buffer.size=8388608
		log.retention.ms=-1
		log.message.timestamp.before.max.ms=9223372036854775807
		log.message.timestamp.after.max.ms=9223372036854775807
		${KS_BROKER_CONFIG:-}
	EOF
	as_server env LC_ALL=C.UTF-8 "${java[@]}" kafka.tools.StorageTool format --cluster-id="$(head -c16 /dev/urandom | base64 | tr '+/' '-_' | tr -d =)" \
		-c "$dir/server.properties" >"$dir/format.out" 2>&1 </dev/null || { cat "$dir/format.out"; die "could not format the storage"; }
}

# Starts the process and waits for its first answer.
start_broker() {
	[ -z "$(broker_pid)" ] || return 0
	"$here/fetch.sh" || exit 1
	[ -e "$dir/server.properties" ] || make_broker
	(
		cd "$dir" || exit 1
		as_server env LC_ALL=C.UTF-8 setsid sh -c 'echo $$ >pid; exec "$@"' sh \
			"${java[@]}" kafka.Kafka "$dir/server.properties" \
			>"$dir/broker.out" 2>&1 </dev/null &
	)
	if ! "$kafka/kafkactl" "127.0.0.1:$port" wait "${KS_BROKER_WAIT:-60}"; then
		tail -20 "$dir/broker.out" "$dir/broker.log" 2>/dev/null
		kill_broker
		die "the broker did not start"
	fi
}

# runuser stops itself when its child is stopped, and goes on only when told to.
thaw_parent() {
	local parent
	parent=$(ps -o ppid= -p "$1" | tr -d ' ')
	[ "$(cat "/proc/${parent:-0}/comm" 2>/dev/null)" != runuser ] || kill -CONT "$parent"
}

# SIGKILL, and waits until the process is gone.
kill_broker() {
	local pid
	pid=$(broker_pid)
	[ -n "$pid" ] || return 0
	thaw_parent "$pid"
	kill -9 "$pid"
	wait_for 10 all_gone "$pid" || die "the broker does not go"
}

# A clean stop; after 20 s a kill.
stop_broker() {
	local pid
	pid=$(broker_pid)
	[ -n "$pid" ] || return 0
	kill -CONT "$pid"
	thaw_parent "$pid"
	kill -TERM "$pid"
	wait_for 20 all_gone "$pid" || kill_broker
}

# Sends a signal to the broker, which must be running.
signal_broker() {
	local pid
	pid=$(broker_pid)
	[ -n "$pid" ] || die "the broker is not running"
	kill "$1" "$pid"
	[ "$1" = -STOP ] || thaw_parent "$pid"
}

case $verb in
	start) start_broker ;;
	stop) stop_broker ;;
	kill) kill_broker ;;
	freeze) signal_broker -STOP ;;
	thaw) signal_broker -CONT ;;
	destroy)
		kill_broker
		rm -rf "$dir"
		;;
	status)
		if [ -n "$(broker_pid)" ]; then
			echo "running: process $(broker_pid), port $port"
		else
			echo "not running"
			exit 3
		fi
		;;
	*) die "unknown command $verb" ;;
esac
