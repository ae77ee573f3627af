/*
 * proxy.c
 *		A TCP proxy between Kafka's clients and a broker, which makes trouble on
 *		demand: for tests only.
 *
 *	proxy PORT BROKERPORT CONTROL_SOCKET
 *
 * Listens on 127.0.0.1:PORT and forwards to 127.0.0.1:BROKERPORT.  Nothing is
 * rewritten, so the broker must advertise PORT to those who come this way (see
 * KS_BROKER_PROXY in test/kafka/broker.sh).  Commands, one a line, come through
 * a UNIX socket; each is answered by "ok ..." or "error ...".  Events are
 * printed, one a line: seconds since the start, what, which connection.
 *
 * The network:
 *	cut						resets all connections and refuses new ones
 *	reset					resets all connections
 *	blackhole [up|down]		forwards nothing (to the broker, to the client, both);
 *							what is sent meanwhile arrives after heal
 *	delay MS [JITTER]		everything arrives so much later, in order
 *	throttle BYTES			so many bytes per second, connection and direction
 *	heal					all as before: takes rules away, releases what is held
 *
 * Rules about requests of one API, by name or number; "commit" and "abort" are
 * the two kinds of EndTxn, "any" is every request.  The first SKIP (0) are let
 * pass, then COUNT (1) are treated:
 *	drop request|response API [COUNT [SKIP]]	it never arrives
 *	hold request|response API [COUNT [SKIP]]	it and all behind it on that
 *							connection wait for release; a request held survives
 *							the connection of the client
 *	steal API ...			holds the request and resets the client's connection
 *	close API ...			forwards the request and resets the client's connection
 *	lose API ...			the same, once the broker has answered
 *	release					lets go what is held; answers how many
 *	clear					takes all rules away
 *	wait SECONDS			answers when all rules have been used up
 *
 *	status					counts of connections, of frames held, of rules left, of
 *							frames treated by rules since the start
 *	trace on|off			an event for every request and response
 *	quit
 *
 * Design: one thread around poll(); whole frames of the protocol (a length and so
 * many bytes) are read and queued.  A request is identified by its header (API,
 * version, correlation id), a response by the correlation id and the list of
 * requests that its connection still owes an answer.  Once the client of a
 * connection is gone, the connection to the broker stays until what was sent on it
 * has been written and answered, as a network would do it.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_FRAME (256 * 1024 * 1024)
#define MAX_QUEUED (8 * 1024 * 1024)	/* above, the sender has to wait */
#define MAX_CONNECTIONS 500
#define MAX_CONTROLS 16
#define MAX_RULES 64
#define END_TXN 26
#define API_COMMIT 1026			/* EndTxn that commits */
#define API_ABORT 2026			/* EndTxn that aborts */
#define API_ANY -1

/* Directions, also indexes of a connection's pipes. */
enum
{
	UP, DOWN						/* to the broker, to the client */
};

typedef enum Action
{
	DROP, HOLD, STEAL, CLOSE, LOSE
} Action;

/* What a rule's action is called. */
static const char *const action_names[] = {"drop", "hold", "steal", "close", "lose"};

/* Some bytes on their way: a frame of the protocol. */
typedef struct Frame
{
	struct Frame *next;
	double		due;			/* not before */
	bool		held;			/* nor what is behind */
	size_t		len;
	size_t		at;				/* so much is written */
	unsigned char data[];
} Frame;

/* A request that the broker has not answered. */
typedef struct Request
{
	struct Request *next;
	int			api;
	int			kind;			/* api, or API_COMMIT, API_ABORT */
	int32_t		correlation;
} Request;

/* One direction of a connection. */
typedef struct Pipe
{
	unsigned char *in;			/* what has come of the next frame */
	size_t		in_len;
	size_t		in_room;
	Frame	   *first;
	Frame	   *last;
	size_t		queued;			/* bytes */
	double		next_write;		/* by the throttle */
} Pipe;

/* A connection of a client, and ours to the broker for it. */
typedef struct Connection
{
	struct Connection *next;
	int			number;
	int			fd[2];			/* fd[UP] to the broker, fd[DOWN] to the client; -1 is closed */
	bool		connecting;
	Pipe		pipe[2];
	Request    *first;
	Request    *last;
	int			poll_at[2];		/* places in the array of poll() */
} Connection;

/* What is to be done with requests of some kind. */
typedef struct Rule
{
	Action		action;
	int			direction;
	int			api;
	long		count;
	long		skip;
} Rule;

/* Somebody who gives commands. */
typedef struct Control
{
	int			fd;				/* -1 is free */
	char		line[512];
	size_t		len;
	double		wait_until;		/* 0: is not waiting */
	int			poll_at;
} Control;

/* The protocol's names of the APIs that tests speak of. */
static const struct
{
	const char *name;
	int			api;
}			apis[] =
{
	{"any", API_ANY}, {"commit", API_COMMIT}, {"abort", API_ABORT},
	{"Produce", 0}, {"Fetch", 1}, {"ListOffsets", 2}, {"Metadata", 3}, {"OffsetCommit", 8},
	{"OffsetFetch", 9}, {"FindCoordinator", 10}, {"JoinGroup", 11}, {"Heartbeat", 12},
	{"LeaveGroup", 13}, {"SyncGroup", 14}, {"DescribeGroups", 15}, {"ListGroups", 16},
	{"SaslHandshake", 17}, {"ApiVersions", 18}, {"CreateTopics", 19}, {"DeleteTopics", 20},
	{"DeleteRecords", 21}, {"InitProducerId", 22}, {"OffsetForLeaderEpoch", 23},
	{"AddPartitionsToTxn", 24}, {"AddOffsetsToTxn", 25}, {"EndTxn", END_TXN},
	{"WriteTxnMarkers", 27}, {"TxnOffsetCommit", 28}, {"DescribeConfigs", 32},
	{"SaslAuthenticate", 36}, {"CreatePartitions", 37}, {"IncrementalAlterConfigs", 44},
};

#define NUM_APIS ((int) (sizeof(apis) / sizeof(apis[0])))

static int	port;
static int	broker_port;
static int	listener = -1;
static int	control_listener = -1;
static Connection *connections;
static int	last_number;
static Control controls[MAX_CONTROLS];
static Rule rules[MAX_RULES];
static int	num_rules;
static long treated;			/* frames that a rule was applied to */
static bool black_hole[2];
static double delay;			/* seconds */
static double jitter;
static double throttle;			/* bytes per second, 0 is no limit */
static bool trace;
static double started;

/* Seconds since some fixed moment. */
static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* Ends the program with a message. */
static void
fail(const char *what)
{
	fprintf(stderr, "proxy: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Memory, or the end. */
static void *
get_memory(void *old, size_t size)
{
	void	   *p = realloc(old, size);

	if (p == NULL)
		fail("memory");
	return p;
}

/* Prints an event. */
static void
event(const char *format,...)
{
	va_list		args;

	printf("%.3f ", now() - started);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* The name of an API. */
static const char *
api_name(int api)
{
	static char number[16];

	for (int i = 0; i < NUM_APIS; i++)
	{
		if (apis[i].api == api)
			return apis[i].name;
	}
	snprintf(number, sizeof(number), "api-%d", api);
	return number;
}

/* The API of a name or number; -2 for none. */
static int
api_of(const char *name)
{
	char	   *end;
	long		number;

	for (int i = 0; i < NUM_APIS; i++)
	{
		if (strcasecmp(apis[i].name, name) == 0)
			return apis[i].api;
	}
	number = strtol(name, &end, 10);
	return *name && *end == '\0' && number >= 0 && number < 1000 ? (int) number : -2;
}

/* A big-endian integer. */
static int32_t
int32_at(const unsigned char *p)
{
	return (int32_t) ((uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3]);
}

/* The same, of two bytes. */
static int
int16_at(const unsigned char *p)
{
	return (int16_t) (p[0] << 8 | p[1]);
}

/* Makes a descriptor non-blocking and without Nagle's delay. */
static void
prepare_socket(int fd)
{
	int			on = 1;

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* Our port on the loopback interface. */
static struct sockaddr_in
local_address(int number)
{
	struct sockaddr_in address = {.sin_family = AF_INET};

	address.sin_port = htons((uint16_t) number);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

/* Takes connections from now on; false if the port cannot be had. */
static bool
start_listening(void)
{
	struct sockaddr_in address = local_address(port);
	int			on = 1;

	if (listener >= 0)
		return true;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0)
		fail("socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *) &address, sizeof(address)) == 0 && listen(listener, 128) == 0)
	{
		fcntl(listener, F_SETFL, O_NONBLOCK);
		return true;
	}
	close(listener);
	listener = -1;
	return false;
}

/* Takes no more connections: they are refused. */
static void
stop_listening(void)
{
	if (listener >= 0)
		close(listener);
	listener = -1;
}

/* Closes one end of a connection; with a reset where the other side shall notice. */
static void
close_end(Connection *c, int side, bool reset)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	if (c->fd[side] < 0)
		return;
	if (reset)
		setsockopt(c->fd[side], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(c->fd[side]);
	c->fd[side] = -1;
}

/* Forgets what is queued in one direction. */
static void
empty_pipe(Pipe *pipe)
{
	while (pipe->first)
	{
		Frame	   *frame = pipe->first;

		pipe->first = frame->next;
		free(frame);
	}
	pipe->last = NULL;
	pipe->queued = 0;
}

/* How many frames of this direction are held. */
static int
held_frames(const Pipe *pipe)
{
	int			n = 0;

	for (const Frame *frame = pipe->first; frame; frame = frame->next)
		n += frame->held;
	return n;
}

/* The client's side of a connection goes; what comes from the broker goes on to be read frame by frame. */
static void
lose_client(Connection *c, bool reset)
{
	close_end(c, DOWN, reset);
	empty_pipe(&c->pipe[DOWN]);
	c->pipe[UP].in_len = 0;
}

/* Resets both sides; the broker's stays only where a request is held for it. */
static void
reset_connection(Connection *c)
{
	lose_client(c, true);
	if (held_frames(&c->pipe[UP]) == 0)
		close_end(c, UP, true);
}

/* True when nothing is left to do on a connection. */
static bool
is_over(Connection *c)
{
	if (c->fd[UP] < 0)
		return c->fd[DOWN] < 0 || c->pipe[DOWN].first == NULL;
	return c->fd[DOWN] < 0 && c->pipe[UP].first == NULL && c->first == NULL;
}

/* Takes connections away that are over. */
static void
sweep(void)
{
	Connection **link = &connections;

	while (*link)
	{
		Connection *c = *link;

		if (!is_over(c))
		{
			link = &c->next;
			continue;
		}
		*link = c->next;
		event("closed connection=%d", c->number);
		close_end(c, UP, false);
		close_end(c, DOWN, false);
		for (int side = 0; side < 2; side++)
		{
			empty_pipe(&c->pipe[side]);
			free(c->pipe[side].in);
		}
		while (c->first)
		{
			Request    *request = c->first;

			c->first = request->next;
			free(request);
		}
		free(c);
	}
}

/* A new client. */
static void
accept_client(void)
{
	struct sockaddr_in address = local_address(broker_port);
	int			fd = accept(listener, NULL, NULL);
	int			n = 0;
	Connection *c;

	if (fd < 0)
		return;
	for (c = connections; c; c = c->next)
		n++;
	if (n >= MAX_CONNECTIONS)
	{
		close(fd);
		return;
	}
	c = get_memory(NULL, sizeof(Connection));
	memset(c, 0, sizeof(Connection));
	c->number = ++last_number;
	c->fd[DOWN] = fd;
	c->fd[UP] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd[UP] < 0)
		fail("socket");
	prepare_socket(c->fd[DOWN]);
	prepare_socket(c->fd[UP]);
	c->connecting = connect(c->fd[UP], (struct sockaddr *) &address, sizeof(address)) != 0;
	c->next = connections;
	connections = c;
	event("open connection=%d", c->number);
	if (c->connecting && errno != EINPROGRESS)
	{
		event("refused connection=%d", c->number);
		reset_connection(c);
	}
}

/* Takes a frame out of what has been read and queues it for the other side. */
static Frame *
queue_frame(Pipe *pipe, size_t len)
{
	Frame	   *frame = get_memory(NULL, sizeof(Frame) + len);

	frame->next = NULL;
	frame->held = false;
	frame->len = len;
	frame->at = 0;
	frame->due = now() + delay + (jitter > 0 ? drand48() * jitter : 0);
	memcpy(frame->data, pipe->in, len);
	if (pipe->last)
		pipe->last->next = frame;
	else
		pipe->first = frame;
	pipe->last = frame;
	pipe->queued += len;
	return frame;
}

/* The rule for a frame, used up by one; NULL for none. */
static const Rule *
rule_for(int direction, const Request *request)
{
	static Rule found;

	for (int i = 0; i < num_rules; i++)
	{
		Rule	   *rule = &rules[i];

		if (rule->direction != direction ||
			(rule->api != API_ANY && rule->api != request->api && rule->api != request->kind))
			continue;
		if (rule->skip > 0)
		{
			rule->skip--;
			continue;
		}
		found = *rule;
		treated++;
		if (--rule->count == 0)
		{
			memmove(rule, rule + 1, sizeof(Rule) * (num_rules - i - 1));
			num_rules--;
		}
		return &found;
	}
	return NULL;
}

/* Reads the header of a request and notes that it wants an answer. */
static Request *
note_request(Connection *c, const unsigned char *data, size_t len)
{
	Request    *request = get_memory(NULL, sizeof(Request));

	request->next = NULL;
	request->api = request->kind = int16_at(data + 4);
	request->correlation = int32_at(data + 8);
	if (request->api == END_TXN)
	{
		/* whether it commits is the last byte; a list of tags follows since version 3 */
		bool		commits = data[len - (int16_at(data + 6) >= 3 ? 2 : 1)] != 0;

		request->kind = commits ? API_COMMIT : API_ABORT;
	}
	if (c->last)
		c->last->next = request;
	else
		c->first = request;
	c->last = request;
	return request;
}

/* Takes the request that was noted last away again: the broker will not get it. */
static void
forget_request(Connection *c, Request *request)
{
	Request   **link = &c->first;
	Request    *before = NULL;

	while (*link != request)
	{
		before = *link;
		link = &before->next;
	}
	*link = request->next;
	if (c->last == request)
		c->last = before;
	free(request);
}

/* A whole request has come from the client. */
static void
take_request(Connection *c, size_t len)
{
	Pipe	   *pipe = &c->pipe[UP];
	Request    *request;
	const Rule *rule;
	Frame	   *frame;

	if (len < 12)
	{
		queue_frame(pipe, len);
		return;
	}
	request = note_request(c, pipe->in, len);
	if (trace)
		event("request %s connection=%d correlation=%d bytes=%zu", api_name(request->kind), c->number, request->correlation, len);
	rule = rule_for(UP, request);
	if (rule)
		event("%s request %s connection=%d correlation=%d", action_names[rule->action],
			  api_name(request->kind), c->number, request->correlation);
	if (rule && rule->action == DROP)
	{
		forget_request(c, request);
		return;
	}
	frame = queue_frame(pipe, len);
	if (rule && (rule->action == HOLD || rule->action == STEAL))
		frame->held = true;
	if (rule && (rule->action == STEAL || rule->action == CLOSE))
		lose_client(c, true);
}

/* A whole response has come from the broker. */
static void
take_response(Connection *c, size_t len)
{
	Pipe	   *pipe = &c->pipe[DOWN];
	int32_t		correlation = len >= 8 ? int32_at(pipe->in + 4) : -1;
	Request    *request = c->first;
	const Rule *rule = NULL;

	/* answers come in the order of the requests, but not each request gets one */
	while (request && request->correlation != correlation)
		request = request->next;
	if (request)
	{
		while (c->first != request)
			forget_request(c, c->first);
		if (trace)
			event("response %s connection=%d correlation=%d bytes=%zu", api_name(request->kind), c->number, correlation, len);
		rule = c->fd[DOWN] >= 0 ? rule_for(DOWN, request) : NULL;
		if (rule)
			event("%s response %s connection=%d correlation=%d", action_names[rule->action],
				  api_name(request->kind), c->number, correlation);
		forget_request(c, request);
	}
	if (rule && rule->action == LOSE)
		lose_client(c, true);
	if (c->fd[DOWN] < 0 || (rule && rule->action == DROP))
		return;
	queue_frame(pipe, len)->held = rule && rule->action == HOLD;
}

/* Reads what has come from one side; the frames that are whole go on their way. */
static void
read_side(Connection *c, int side)
{
	Pipe	   *pipe = &c->pipe[side == UP ? DOWN : UP];
	ssize_t		n;

	if (pipe->in_room - pipe->in_len < 65536)
	{
		pipe->in_room = pipe->in_room * 2 + 131072;
		pipe->in = get_memory(pipe->in, pipe->in_room);
	}
	n = recv(c->fd[side], pipe->in + pipe->in_len, pipe->in_room - pipe->in_len, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
	{
		if (side == DOWN)
			lose_client(c, false);
		else
		{
			close_end(c, UP, false);
			empty_pipe(&c->pipe[UP]);
		}
		return;
	}
	pipe->in_len += n;
	while (pipe->in_len >= 4)
	{
		int32_t		len = int32_at(pipe->in);

		if (len < 0 || len > MAX_FRAME)
		{
			event("garbage connection=%d", c->number);
			reset_connection(c);
			return;
		}
		if (pipe->in_len < (size_t) len + 4)
			break;
		if (side == DOWN)
			take_request(c, (size_t) len + 4);
		else
			take_response(c, (size_t) len + 4);
		/* a rule may have reset the client */
		if (pipe->in_len == 0)
			return;
		pipe->in_len -= (size_t) len + 4;
		memmove(pipe->in, pipe->in + len + 4, pipe->in_len);
	}
}

/* When something can be written in this direction: a moment, or -1 for not at all. */
static double
write_time(Connection *c, int direction)
{
	Pipe	   *pipe = &c->pipe[direction];

	if (pipe->first == NULL || pipe->first->held || black_hole[direction] || c->fd[direction] < 0)
		return -1;
	return pipe->first->due > pipe->next_write ? pipe->first->due : pipe->next_write;
}

/* Writes what is due in one direction. */
static void
write_side(Connection *c, int direction)
{
	Pipe	   *pipe = &c->pipe[direction];
	double		when;

	while ((when = write_time(c, direction)) >= 0 && when <= now())
	{
		Frame	   *frame = pipe->first;
		size_t		most = frame->len - frame->at;
		ssize_t		n;

		if (throttle > 0 && most > throttle / 20 + 1)
			most = (size_t) (throttle / 20) + 1;
		n = send(c->fd[direction], frame->data + frame->at, most, MSG_NOSIGNAL);
		if (n < 0)
		{
			if (errno == EAGAIN || errno == EINTR)
				return;
			if (direction == DOWN)
				lose_client(c, false);
			else
				reset_connection(c);
			return;
		}
		frame->at += n;
		pipe->queued -= n;
		if (throttle > 0)
			pipe->next_write = now() + n / throttle;
		if (frame->at == frame->len)
		{
			pipe->first = frame->next;
			if (pipe->first == NULL)
				pipe->last = NULL;
			free(frame);
		}
	}
}

/* Lets go what is held; how many frames. */
static int
release_all(void)
{
	int			n = 0;

	for (Connection *c = connections; c; c = c->next)
	{
		for (int side = 0; side < 2; side++)
		{
			n += held_frames(&c->pipe[side]);
			for (Frame *frame = c->pipe[side].first; frame; frame = frame->next)
				frame->held = false;
		}
	}
	return n;
}

/* The state of things, for the command status. */
static void
describe(char *answer, size_t size)
{
	int			open = 0;
	int			orphans = 0;
	int			held = 0;

	for (Connection *c = connections; c; c = c->next)
	{
		open += c->fd[DOWN] >= 0;
		orphans += c->fd[DOWN] < 0;
		held += held_frames(&c->pipe[UP]) + held_frames(&c->pipe[DOWN]);
	}
	snprintf(answer, size, "ok connections=%d orphans=%d held=%d rules=%d treated=%ld", open, orphans, held,
			 num_rules, treated);
}

/* Adds a rule; what is wrong, or NULL. */
static const char *
add_rule(char **word, int nwords)
{
	Rule		rule = {.direction = UP, .count = 1};
	int			at = 1;

	for (rule.action = DROP; strcmp(action_names[rule.action], word[0]) != 0;)
		rule.action++;
	if (rule.action == LOSE)
		rule.direction = DOWN;
	if (rule.action == DROP || rule.action == HOLD)
	{
		if (nwords < 2 || (strcmp(word[1], "request") != 0 && strcmp(word[1], "response") != 0))
			return "request or response?";
		rule.direction = strcmp(word[1], "request") == 0 ? UP : DOWN;
		at = 2;
	}
	if (nwords <= at || (rule.api = api_of(word[at])) == -2)
		return "unknown API";
	if (nwords > at + 1)
		rule.count = atol(word[at + 1]);
	if (nwords > at + 2)
		rule.skip = atol(word[at + 2]);
	if (rule.count < 1 || rule.skip < 0)
		return "bad count";
	if (num_rules == MAX_RULES)
		return "too many rules";
	rules[num_rules++] = rule;
	return NULL;
}

/* The network as it was. */
static const char *
heal(void)
{
	black_hole[UP] = black_hole[DOWN] = false;
	delay = jitter = throttle = 0;
	num_rules = 0;
	release_all();
	return start_listening() ? NULL : "the port cannot be had";
}

/* Resets all connections. */
static const char *
reset_all(void)
{
	for (Connection *c = connections; c; c = c->next)
		reset_connection(c);
	return NULL;
}

/* Does what a command says about the network or the rules; what is wrong, or NULL. */
static const char *
obey(char **word, int nwords)
{
	const char *verb = word[0];
	const char *arg = nwords > 1 ? word[1] : "";

	for (int i = 0; i <= LOSE; i++)
	{
		if (strcmp(verb, action_names[i]) == 0)
			return add_rule(word, nwords);
	}
	if (strcmp(verb, "heal") == 0)
		return heal();
	if (strcmp(verb, "reset") == 0)
		return reset_all();
	if (strcmp(verb, "cut") == 0)
	{
		stop_listening();
		return reset_all();
	}
	if (strcmp(verb, "blackhole") == 0)
	{
		if (nwords > 1 && strcmp(arg, "up") != 0 && strcmp(arg, "down") != 0)
			return "up or down?";
		black_hole[UP] = strcmp(arg, "down") != 0;
		black_hole[DOWN] = strcmp(arg, "up") != 0;
	}
	else if (strcmp(verb, "delay") == 0)
	{
		delay = atof(arg) / 1000;
		jitter = nwords > 2 ? atof(word[2]) / 1000 : 0;
	}
	else if (strcmp(verb, "throttle") == 0)
		throttle = atof(arg);
	else if (strcmp(verb, "clear") == 0)
		num_rules = 0;
	else if (strcmp(verb, "trace") == 0)
		trace = strcmp(arg, "on") == 0;
	else
		return "unknown command";
	return NULL;
}

/* Answers a controller. */
static void
answer(Control *control, const char *text)
{
	char		line[600];
	int			len = snprintf(line, sizeof(line), "%s\n", text);

	if (send(control->fd, line, len, MSG_NOSIGNAL) != len)
	{
		close(control->fd);
		control->fd = -1;
	}
}

/* Obeys one line of a controller. */
static void
take_command(Control *control, char *line)
{
	char	   *word[8];
	int			nwords = 0;
	char	   *save = NULL;
	char		text[512];
	const char *why;

	event("command %s", line);
	for (char *p = strtok_r(line, " \t\r", &save); p && nwords < 8; p = strtok_r(NULL, " \t\r", &save))
		word[nwords++] = p;
	if (nwords == 0)
		snprintf(text, sizeof(text), "error empty line");
	else if (strcmp(word[0], "quit") == 0)
	{
		answer(control, "ok");
		exit(0);
	}
	else if (strcmp(word[0], "wait") == 0)
	{
		control->wait_until = now() + (nwords > 1 ? atof(word[1]) : 10);
		return;
	}
	else if (strcmp(word[0], "status") == 0)
		describe(text, sizeof(text));
	else if (strcmp(word[0], "release") == 0)
		snprintf(text, sizeof(text), "ok %d", release_all());
	else
	{
		why = obey(word, nwords);
		snprintf(text, sizeof(text), why ? "error %s" : "ok", why);
	}
	answer(control, text);
}

/* Reads from a controller. */
static void
read_control(Control *control)
{
	ssize_t		n = recv(control->fd, control->line + control->len, sizeof(control->line) - 1 - control->len, 0);
	char	   *end;

	if (n <= 0)
	{
		close(control->fd);
		control->fd = -1;
		return;
	}
	control->len += n;
	while (control->fd >= 0 && (end = memchr(control->line, '\n', control->len)) != NULL)
	{
		size_t		used = end + 1 - control->line;
		char		line[sizeof(control->line)];

		*end = '\0';
		memcpy(line, control->line, used);
		control->len -= used;
		memmove(control->line, control->line + used, control->len);
		take_command(control, line);
	}
	if (control->len == sizeof(control->line) - 1)
		control->len = 0;
}

/* Answers those who wait for the rules to be used up. */
static void
answer_waiting(void)
{
	for (int i = 0; i < MAX_CONTROLS; i++)
	{
		Control    *control = &controls[i];

		if (control->fd < 0 || control->wait_until == 0)
			continue;
		if (num_rules == 0)
			answer(control, "ok");
		else if (now() > control->wait_until)
			answer(control, "error nothing came that the rules are for");
		else
			continue;
		control->wait_until = 0;
	}
}

/* A new controller. */
static void
accept_control(void)
{
	int			fd = accept(control_listener, NULL, NULL);

	for (int i = 0; fd >= 0 && i < MAX_CONTROLS; i++)
	{
		if (controls[i].fd < 0)
		{
			controls[i].fd = fd;
			controls[i].len = 0;
			controls[i].wait_until = 0;
			return;
		}
	}
	if (fd >= 0)
		close(fd);
}

/* The socket for commands. */
static void
start_control(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
	{
		errno = ENAMETOOLONG;
		fail(path);
	}
	strcpy(address.sun_path, path);
	unlink(path);
	control_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (control_listener < 0 || bind(control_listener, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(control_listener, 8) != 0)
		fail(path);
	for (int i = 0; i < MAX_CONTROLS; i++)
		controls[i].fd = -1;
}

/* Adds a descriptor to what poll() looks at; its place, or -1. */
static int
watch(struct pollfd *fds, int *n, int fd, short events)
{
	if (fd < 0 || events == 0)
		return -1;
	fds[*n].fd = fd;
	fds[*n].events = events;
	fds[*n].revents = 0;
	return (*n)++;
}

/* What poll() has found at a place. */
static short
found(const struct pollfd *fds, int at)
{
	return at < 0 ? 0 : fds[at].revents;
}

/* Collects what to wait for of all connections; the wake-up time moves forward as needed. */
static void
watch_connections(struct pollfd *fds, int *n, double *wake)
{
	for (Connection *c = connections; c; c = c->next)
	{
		for (int side = 0; side < 2; side++)
		{
			/* what comes from this side goes in the other direction */
			int			goes = side == UP ? DOWN : UP;
			double		when = write_time(c, side);
			short		events = 0;

			if (!black_hole[goes] && c->pipe[goes].queued < MAX_QUEUED && !(side == UP && c->connecting))
				events |= POLLIN;
			if (side == UP && c->connecting)
				events |= POLLOUT;
			else if (when >= 0 && when <= now())
				events |= POLLOUT;
			else if (when >= 0 && when < *wake)
				*wake = when;
			c->poll_at[side] = watch(fds, n, c->fd[side], events);
		}
	}
}

/* Has the connection to the broker come about? */
static void
finish_connecting(Connection *c)
{
	int			error = 0;
	socklen_t	len = sizeof(error);

	c->connecting = false;
	getsockopt(c->fd[UP], SOL_SOCKET, SO_ERROR, &error, &len);
	if (error)
	{
		event("refused connection=%d", c->number);
		empty_pipe(&c->pipe[UP]);
		reset_connection(c);
	}
}

/* Serves all connections. */
static void
serve_connections(const struct pollfd *fds)
{
	for (Connection *c = connections; c; c = c->next)
	{
		if (c->connecting && c->fd[UP] >= 0 && found(fds, c->poll_at[UP]))
			finish_connecting(c);
		else if (!c->connecting)
		{
			for (int side = 0; side < 2; side++)
			{
				if (c->fd[side] >= 0 && (found(fds, c->poll_at[side]) & (POLLIN | POLLHUP | POLLERR)) &&
					!black_hole[side == UP ? DOWN : UP])
					read_side(c, side);
			}
		}
		else if (c->fd[DOWN] >= 0 && (found(fds, c->poll_at[DOWN]) & (POLLIN | POLLHUP | POLLERR)))
			read_side(c, DOWN);
		for (int side = 0; side < 2; side++)
		{
			if (!c->connecting)
				write_side(c, side);
		}
	}
}

/* Waits for something to happen and deals with it. */
static void
turn(void)
{
	static struct pollfd fds[2 * MAX_CONNECTIONS + MAX_CONTROLS + 2];
	int			n = 0;
	double		wake = now() + 1;
	int			listen_at = watch(fds, &n, listener, POLLIN);
	int			control_at = watch(fds, &n, control_listener, POLLIN);

	for (int i = 0; i < MAX_CONTROLS; i++)
	{
		controls[i].poll_at = watch(fds, &n, controls[i].fd, POLLIN);
		if (controls[i].fd >= 0 && controls[i].wait_until > 0 && controls[i].wait_until < wake)
			wake = controls[i].wait_until;
	}
	watch_connections(fds, &n, &wake);
	wake -= now();
	if (poll(fds, n, wake > 0 ? (int) (wake * 1000) + 1 : 0) < 0 && errno != EINTR)
		fail("poll");
	serve_connections(fds);
	if (listener >= 0 && found(fds, listen_at))
		accept_client();
	for (int i = 0; i < MAX_CONTROLS; i++)
	{
		if (controls[i].fd >= 0 && found(fds, controls[i].poll_at))
			read_control(&controls[i]);
	}
	if (found(fds, control_at))
		accept_control();
	answer_waiting();
	sweep();
}

/* See the head of this file. */
int
main(int argc, char **argv)
{
	if (argc != 4 || (port = atoi(argv[1])) <= 0 || (broker_port = atoi(argv[2])) <= 0)
	{
		fprintf(stderr, "usage: proxy PORT BROKERPORT CONTROL_SOCKET\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	started = now();
	srand48(port);
	if (!start_listening())
		fail("listen");
	start_control(argv[3]);
	event("ready");
	for (;;)
		turn();
}
