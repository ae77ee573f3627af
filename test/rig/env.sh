# env.sh: what every script of the test rig shares.  Source it from bash.
#
# Who runs what: servers never run as root.  When root calls, servers and
# clients run as user KS_USER (postgres); else as the caller.
#
# Where: KS_TOP is the source tree, KS_CACHE what is kept between runs (jars,
# object files).  KS_PGROOT, when set, is a private copy of the PostgreSQL
# installation made by pgroot.sh, into which the extension is installed, so
# that neither the system nor another checkout is touched; unset, the
# installation that PG_CONFIG names is used as it is.

set -u
KS_TOP=${KS_TOP:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
KS_CACHE=${KS_CACHE:-$KS_TOP/.cache}
KS_START=${KS_START:-$(date +%s)}
export KS_TOP KS_CACHE KS_START

if [ "$(id -u)" = 0 ]; then
	KS_USER=${KS_USER:-postgres}
else
	KS_USER=$(id -un)
fi
export KS_USER

# The pg_config of the private installation, or the one that was asked for.
ks_pg_config() {
	local real
	real=$(command -v "${PG_CONFIG:-pg_config}") || return 1
	case $real in
		"${KS_PGROOT:-none}"/*) ;;
		*) [ -z "${KS_PGROOT:-}" ] || real=$KS_PGROOT$("$real" --bindir)/pg_config ;;
	esac
	echo "$real"
}

# Puts the server's programs first in the PATH.
ks_use_pg() {
	local config
	config=$(ks_pg_config) || die "pg_config not found: run test/rig/deps.sh"
	KS_BIN=$("$config" --bindir)
	export KS_BIN
	case ":$PATH:" in
		*":$KS_BIN:"*) ;;
		*) export PATH="$KS_BIN:$PATH" ;;
	esac
}

# A line of progress with the seconds since the start of the run.
log() {
	printf '[%4ds] %s\n' "$(($(date +%s) - KS_START))" "$*"
}

# An error, and the end of the script.
die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# Runs a command as the user that servers run as, keeping the environment.
as_server() {
	if [ "$(id -un)" = "$KS_USER" ]; then
		"$@"
	else
		HOME=/nonexistent runuser -u "$KS_USER" --preserve-environment -- "$@"
	fi
}

# Makes a directory that the servers' user owns and can reach.
server_dir() {
	mkdir -p "$1" || return 1
	if [ "$(id -un)" != "$KS_USER" ]; then
		chown "$KS_USER" "$1"
	fi
}

# A TCP port free on 127.0.0.1, by asking the kernel for it; below the range
# from which the kernel gives ports to outgoing connections, so that a server
# that was stopped finds it free when it is started again.
free_port() {
	perl -MIO::Socket::INET -e '
		my $low = 32768;
		if (open my $f, "<", "/proc/sys/net/ipv4/ip_local_port_range") { ($low) = split " ", <$f>; }
		$low = 60000 if $low < 12000;
		for (1 .. 1000)
		{
			my $port = 10000 + int(rand($low - 10000));
			IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 1) or next;
			print "$port\n";
			exit 0;
		}
		exit 1;' || die "no free port"
}

# Tallies: each suite ends with one line, which the runner adds up.
KS_PASSED=0
KS_FAILED=0

# ok NAME / not_ok NAME [details]: one check done.
ok() {
	KS_PASSED=$((KS_PASSED + 1))
	printf '  ok      %s\n' "$1"
}
not_ok() {
	KS_FAILED=$((KS_FAILED + 1))
	printf '  FAILED  %s\n' "$1"
	[ $# -lt 2 ] || printf '%s\n' "$2" | sed 's/^/          /'
}

# Prints the tally of a suite; its value is the suite's exit code.
tally() {
	printf '%d passed, %d failed\n' "$KS_PASSED" "$KS_FAILED"
	[ "$KS_FAILED" = 0 ] && [ "$KS_PASSED" -gt 0 ]
}

# Waits until a command succeeds: wait_for SECONDS COMMAND...
wait_for() {
	local end=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt "$end" ] || return 1
		sleep 0.1
	done
}

# True when the process is there and is not a zombie.
alive() {
	[ -n "$1" ] && [ -r "/proc/$1/stat" ] && ! grep -q '^[0-9]* (.*) Z' "/proc/$1/stat" 2>/dev/null
}

# True when none of the processes is there any more.
all_gone() {
	local pid
	for pid in "$@"; do
		! alive "$pid" || return 1
	done
}
