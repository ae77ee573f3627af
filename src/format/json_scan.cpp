/*
 * json_scan.cpp
 *		One pass over a JSON document, on libsimdjson's first stage.
 *
 * The only C++ file of the tree.  The library finds where the tokens start and
 * checks that the text is UTF-8, that strings are closed and hold no control
 * characters; that is the part that needs vector instructions, chosen for the
 * processor at run time.  The walk over the tokens is done here: the library's
 * own (On-Demand) does not look at what it skips, so that whether a record is
 * bad would depend on the columns a query reads, and took twice the time.
 *
 * Wanted paths make a tree of nodes.  The walk carries the node it stands on,
 * or none where nothing below is wanted.  A field seen again first clears what
 * its earlier occurrence has set, so the last one counts as a whole.
 *
 * Exceptions: simdjson is used without them, memory comes from malloc, and no
 * standard container is used, so there is nothing that could throw.  Nothing
 * here calls PostgreSQL, hence no longjmp can cross a C++ frame either.
 */
#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "format/json_scan.h"
#include "format/json_text.h"

namespace
{

typedef simdjson::internal::dom_parser_implementation Tokenizer;

/* Memory of a large document is given back after the next scan. */
const size_t KEEP_BUFFER = 1024 * 1024;

/* Longer documents cannot become a value in PostgreSQL anyway. */
const size_t MAX_DOCUMENT = 1000 * 1000 * 1000;

struct Node
{
	char	   *name;			/* field name, NULL for an array element */
	size_t		len;
	uint64_t	word;			/* see name_word */
	long		index;			/* array element */
	int			slot;			/* -1: only a step on the way */
	Node	   *next;			/* sibling */
	Node	   *children;
	int			nfields;		/* children that are fields */
	Node	  **table;			/* hash table of them */
	size_t		mask;
	bool		has_elements;	/* some children are array elements */
	uint64_t	seen;			/* number of the last scan that met it */
};

/* An array or object that the walk is in. */
struct Level
{
	Node	   *node;			/* what is wanted of it, or none */
	const char *start;
	long		index;			/* of the current element of an array */
	bool		object;
};

}								/* namespace */

struct KsJsonScanner
{
	std::unique_ptr<Tokenizer> tokenizer;
	Node		root;
	int			nslots;
	uint64_t	nscans;
	char	   *buffer;
	size_t		capacity;		/* without the padding */
	char	   *keybuf;			/* a key without its escapes */
	size_t		keycap;
	Level		levels[KS_JSON_MAX_DEPTH];
};

namespace
{

/*
 * The position in the document: start of the current token and, behind it, of
 * those that follow; the last is the end of the text.  Passed by reference to
 * functions that must be inlined, so that it stays in a register.
 */
typedef const uint32_t *Cursor;

#define KS_INLINE inline __attribute__((always_inline))

/* State of one scan. */
struct Walk
{
	KsJsonScanner *scanner;
	KsJsonToken *slots;
	const char *buf;
	const char *end;
	int			depth;
	bool		escapes;		/* there is a backslash somewhere */
	KsJsonStatus status;
	const char *reason;
	const char *where;
};

/* Records why the document is refused. */
bool
fail(Walk *walk, const char *reason, const char *where)
{
	walk->status = KS_JSON_MALFORMED;
	walk->reason = reason;
	walk->where = where;
	return false;
}

/*
 * The start of a field name as a number, with its length: enough to tell most
 * names apart.  Reads 8 bytes, which tokens and stored names allow.
 */
inline uint64_t
name_word(const char *name, size_t len)
{
	uint64_t	word;

	memcpy(&word, name, sizeof(word));
	if (len < 8)
		word &= ((uint64_t) 1 << (len * 8)) - 1;
	return word;
}

/* Hash of a field name. */
inline size_t
hash_name(uint64_t word, size_t len)
{
	return (size_t) (((word ^ len) * UINT64_C(0x9E3779B97F4A7C15)) >> 32);
}

/* The child of a node for a field name, or none. */
inline Node *
find_field(const Node *node, const char *name, size_t len)
{
	uint64_t	word = name_word(name, len);

	if (node->nfields == 0)
		return nullptr;
	for (size_t i = hash_name(word, len);; i++)
	{
		Node	   *child = node->table[i & node->mask];

		if (child == nullptr)
			return nullptr;
		if (child->word == word && child->len == len &&
			(len <= 8 || memcmp(child->name + 8, name + 8, len - 8) == 0))
			return child;
	}
}

/* The child of a node for an array element, or none. */
inline Node *
find_element(const Node *node, long index)
{
	for (Node *child = node->children; child != nullptr; child = child->next)
	{
		if (child->name == nullptr && child->index == index)
			return child;
	}
	return nullptr;
}

/* Forgets what an earlier occurrence of a field has set. */
void
clear_below(const KsJsonScanner *scanner, Node *node, KsJsonToken *slots)
{
	for (Node *child = node->children; child != nullptr; child = child->next)
	{
		if (child->seen != scanner->nscans)
			continue;
		child->seen = 0;
		if (child->slot >= 0)
			slots[child->slot].kind = KS_JSON_MISSING;
		clear_below(scanner, child, slots);
	}
}

/* Notes that a node was met, again perhaps. */
inline void
enter(Walk *walk, Node *node)
{
	if (node->seen == walk->scanner->nscans)
		clear_below(walk->scanner, node, walk->slots);
	node->seen = walk->scanner->nscans;
}

/* Makes a token. */
inline void
set_token(KsJsonToken *token, KsJsonKind kind, bool escaped, const char *str, size_t len)
{
	token->kind = kind;
	token->escaped = escaped;
	token->str = str;
	token->len = len;
}

/* Length of a piece of text without the white space behind it. */
inline size_t
trim(const char *str, size_t len)
{
	/* most documents have none */
	while (len > 0 && (unsigned char) str[len - 1] <= ' ' &&
		   (str[len - 1] == ' ' || str[len - 1] == '\n' ||
			str[len - 1] == '\r' || str[len - 1] == '\t'))
		len--;
	return len;
}

/* Checks a string that may have escapes. */
bool
scan_string(Walk *walk, const char *str, size_t len, bool *escaped)
{
	if (memchr(str, '\\', len) == nullptr)
		return true;
	*escaped = true;
	return ks_json_escapes_valid(str + 1, len - 2) ||
		fail(walk, "a string has an invalid escape sequence", str);
}

/* Says why there is no value of JSON's where one is expected. */
bool
fail_value(Walk *walk, const char *str)
{
	return fail(walk, str == walk->end ? "the document is cut short" :
				"a value is malformed", str);
}

/* Checks a number; most are plain digits and need no call. */
KS_INLINE bool
number_valid(const char *str, size_t len)
{
	size_t		i = 0;

	if (*str >= '1')
	{
		while (i < len && str[i] >= '0' && str[i] <= '9')
			i++;
	}
	return (i > 0 && i == len) || ks_json_number_valid(str, len);
}

/* Checks a value that starts as a literal or a number does. */
KS_INLINE bool
scan_atom(Walk *walk, const char *str, size_t len, KsJsonKind *kind)
{
	switch (*str)
	{
		case 't':
			*kind = KS_JSON_TRUE;
			return (len == 4 && memcmp(str, "true", 4) == 0) || fail_value(walk, str);
		case 'f':
			*kind = KS_JSON_FALSE;
			return (len == 5 && memcmp(str, "false", 5) == 0) || fail_value(walk, str);
		case 'n':
			*kind = KS_JSON_NULL;
			return (len == 4 && memcmp(str, "null", 4) == 0) || fail_value(walk, str);
		default:
			*kind = KS_JSON_NUMBER;
			return number_valid(str, len) || fail_value(walk, str);
	}
}

/* Checks the scalar at the current token, stores it if wanted, and goes on. */
KS_INLINE bool
scan_scalar(Walk *walk, Cursor &token, KsJsonToken *out)
{
	const char *str = walk->buf + token[0];
	const char *next = walk->buf + token[1];
	size_t		len;
	KsJsonKind	kind = KS_JSON_STRING;
	bool		escaped = false;

	token++;
	/* the tokenizer has seen to it that strings are closed and clean */
	if (*str == '"' && out == nullptr && !walk->escapes)
		return true;
	len = trim(str, next - str);
	if (*str == '"')
	{
		if (walk->escapes && !scan_string(walk, str, len, &escaped))
			return false;
	}
	else if (!scan_atom(walk, str, len, &kind))
		return false;
	if (out != nullptr)
		set_token(out, kind, escaped, str, len);
	return true;
}

/* find_field for a key that may be written with escapes. */
bool
find_escaped_field(Walk *walk, const Node *node, const char *key, size_t len, Node **child)
{
	KsJsonScanner *scanner = walk->scanner;
	bool		escaped = false;
	size_t		plain;

	if (!scan_string(walk, key, len, &escaped))
		return false;
	if (node == nullptr)
		return true;
	key++;
	len -= 2;
	if (!escaped)
	{
		*child = find_field(node, key, len);
		return true;
	}
	if (len + 8 > scanner->keycap)
	{
		char	   *grown = (char *) realloc(scanner->keybuf, len + 8);

		if (grown == nullptr)
		{
			walk->status = KS_JSON_NO_MEMORY;
			return false;
		}
		scanner->keybuf = grown;
		scanner->keycap = len + 8;
	}
	/* a key that no text value can have names no column */
	if (ks_json_unescape(key, len, scanner->keybuf, &plain) == KS_JSON_TEXT_OK)
		*child = find_field(node, scanner->keybuf, plain);
	return true;
}

/* Reads a key and its colon; sets what is wanted of the value, or none. */
KS_INLINE bool
scan_key(Walk *walk, Cursor &token, Node *node, Node **child)
{
	const char *key = walk->buf + token[0];
	const char *colon;
	size_t		len;

	*child = nullptr;
	if (*key != '"')
		return fail(walk, key == walk->end ? "the document is cut short" :
					"a key in double quotes is expected", key);
	colon = walk->buf + token[1];
	if (*colon != ':')
		return fail(walk, "a colon is expected behind a key", colon);
	token += 2;
	if (node == nullptr && !walk->escapes)
		return true;
	len = trim(key, colon - key);
	if (walk->escapes)
		return find_escaped_field(walk, node, key, len, child);
	*child = find_field(node, key + 1, len - 2);
	return true;
}

/* What is wanted of the current element of an array. */
inline Node *
element_node(const Level *level)
{
	if (level->node == nullptr || !level->node->has_elements)
		return nullptr;
	return find_element(level->node, level->index);
}

/*
 * Goes into the array or object at the current token.  Leaves the current token
 * at its first value, with what is wanted of that, or at its closing bracket.
 */
bool
open_level(Walk *walk, Cursor *cursor, Node **node, bool *empty)
{
	Cursor		token = *cursor;
	const char *str = walk->buf + token[0];
	Level	   *level;
	bool		ok = true;

	if (walk->depth == KS_JSON_MAX_DEPTH)
	{
		walk->status = KS_JSON_TOO_DEEP;
		walk->where = str;
		return false;
	}
	level = &walk->scanner->levels[walk->depth++];
	level->node = *node;
	level->start = str;
	level->index = 0;
	level->object = (*str == '{');
	token++;
	*empty = (walk->buf[token[0]] == (level->object ? '}' : ']'));
	if (!*empty && level->object)
		ok = scan_key(walk, token, level->node, node);
	else if (!*empty)
		*node = element_node(level);
	*cursor = token;
	return ok;
}

/* Leaves the array or object that ends at the given place. */
bool
close_level(Walk *walk, const char *str)
{
	Level	   *level = &walk->scanner->levels[walk->depth - 1];

	if (*str != (level->object ? '}' : ']'))
		return fail(walk, str == walk->end ? "the document is cut short" :
					"a comma or the closing bracket is expected", str);
	if (level->node != nullptr && level->node->slot >= 0)
		set_token(&walk->slots[level->node->slot],
				  level->object ? KS_JSON_OBJECT : KS_JSON_ARRAY, walk->escapes,
				  level->start, str + 1 - level->start);
	walk->depth--;
	return true;
}

/*
 * Goes on behind a value: leaves the arrays and objects that end here, up to
 * the next value or, with depth 0, the end of the outermost.
 */
KS_INLINE bool
next_value(Walk *walk, Cursor &token, Node **node)
{
	while (walk->depth > 0)
	{
		const char *str = walk->buf + token[0];

		if (*str == ',')
		{
			Level	   *level = &walk->scanner->levels[walk->depth - 1];

			token++;
			if (level->object)
				return scan_key(walk, token, level->node, node);
			level->index++;
			*node = element_node(level);
			return true;
		}
		if (!close_level(walk, str))
			return false;
		token++;
	}
	return true;
}

/* Visits the value at the current token with all that is in it. */
bool
walk_value(Walk *walk, Cursor *cursor, Node *node)
{
	Cursor		token = *cursor;

	do
	{
		char		c = walk->buf[token[0]];

		if (node != nullptr)
			enter(walk, node);
		if (c == '{' || c == '[')
		{
			bool		empty;
			Cursor		inside = token;

			if (!open_level(walk, &inside, &node, &empty))
				return false;
			token = inside;
			if (!empty)
				continue;
		}
		else if (!scan_scalar(walk, token, (node != nullptr && node->slot >= 0) ?
							  &walk->slots[node->slot] : nullptr))
			return false;
		if (!next_value(walk, token, &node))
			return false;
	} while (walk->depth > 0);
	*cursor = token;
	return true;
}

/* Visits the whole document and sets its token. */
bool
walk_root(Walk *walk, Cursor token, KsJsonToken *root)
{
	const char *str = walk->buf + token[0];

	if (*str == '{' || *str == '[')
	{
		if (!walk_value(walk, &token, *str == '{' ? &walk->scanner->root : nullptr))
			return false;
		set_token(root, *str == '{' ? KS_JSON_OBJECT : KS_JSON_ARRAY, walk->escapes,
				  str, walk->buf + token[-1] + 1 - str);
	}
	else if (!scan_scalar(walk, token, root))
		return false;
	return walk->buf + token[0] == walk->end ||
		fail(walk, "there is something behind the end of the document",
			 walk->buf + token[0]);
}

/* Gets memory for a document of the given size. */
KsJsonStatus
reserve(KsJsonScanner *scanner, size_t len)
{
	size_t		wanted = len < 1024 ? 1024 : len + len / 4;
	simdjson::error_code code;

	if (scanner->capacity > 0 && len <= scanner->capacity &&
		(scanner->capacity <= KEEP_BUFFER || len > KEEP_BUFFER))
		return KS_JSON_OK;
	scanner->capacity = 0;
	free(scanner->buffer);
	scanner->buffer = (char *) malloc(wanted + simdjson::SIMDJSON_PADDING);
	if (scanner->buffer == nullptr)
		return KS_JSON_NO_MEMORY;
	if (scanner->tokenizer)
		code = scanner->tokenizer->set_capacity(wanted);
	else
		code = simdjson::get_active_implementation()->
			create_dom_parser_implementation(wanted, 1, scanner->tokenizer);
	if (code != simdjson::SUCCESS)
		return KS_JSON_NO_MEMORY;
	scanner->capacity = wanted;
	return KS_JSON_OK;
}

/*
 * Where the tokenizer found fault with a string, which it does not say: at the
 * first control character within one, or (closed false) at the quote of the one
 * that is not closed.
 */
size_t
string_fault(const char *doc, size_t len, bool closed)
{
	size_t		start = 0;
	bool		inside = false;

	for (size_t i = 0; i < len; i++)
	{
		if (inside && closed && (unsigned char) doc[i] < ' ')
			return i;
		if (inside && doc[i] == '\\' && i + 1 < len && (unsigned char) doc[i + 1] >= ' ')
			i++;
		else if (doc[i] == '"')
		{
			inside = !inside;
			start = i;
		}
	}
	return inside ? start : 0;
}

/* Finds the tokens of a document; its text is copied to where they may be read. */
KsJsonStatus
tokenize(KsJsonScanner *scanner, const char *doc, size_t len, KsJsonFault *fault)
{
	KsJsonStatus status = (len > MAX_DOCUMENT) ? KS_JSON_TOO_BIG : reserve(scanner, len);

	if (status != KS_JSON_OK)
		return status;
	if (len >= 3 && memcmp(doc, "\xEF\xBB\xBF", 3) == 0)
	{
		fault->reason = "the document starts with a byte order mark";
		return KS_JSON_MALFORMED;
	}
	memcpy(scanner->buffer, doc, len);
	memset(scanner->buffer + len, 0, simdjson::SIMDJSON_PADDING);
	switch (scanner->tokenizer->stage1((const uint8_t *) scanner->buffer, len,
									   simdjson::stage1_mode::regular))
	{
		case simdjson::SUCCESS:
			return KS_JSON_OK;
		case simdjson::UTF8_ERROR:
			return KS_JSON_NOT_UTF8;
		case simdjson::MEMALLOC:
			return KS_JSON_NO_MEMORY;
		case simdjson::EMPTY:
			fault->reason = "the document is empty";
			return KS_JSON_MALFORMED;
		case simdjson::UNCLOSED_STRING:
			fault->reason = "a string is not closed";
			fault->offset = string_fault(doc, len, false);
			return KS_JSON_MALFORMED;
		case simdjson::UNESCAPED_CHARS:
			fault->reason = "a string has a control character that is not escaped";
			fault->offset = string_fault(doc, len, true);
			return KS_JSON_MALFORMED;
		default:
			fault->reason = "the document is not well-formed";
			return KS_JSON_MALFORMED;
	}
}

/* Makes an empty child of a node. */
Node *
add_child(Node *node, const KsJsonStep *step)
{
	Node	   *child = (Node *) calloc(1, sizeof(Node));

	if (child == nullptr)
		return nullptr;
	if (step->name != nullptr)
	{
		child->name = (char *) calloc(1, step->len + 8);
		if (child->name == nullptr)
		{
			free(child);
			return nullptr;
		}
		memcpy(child->name, step->name, step->len);
		child->len = step->len;
		child->word = name_word(child->name, child->len);
		node->nfields++;
	}
	else
	{
		child->index = step->index;
		node->has_elements = true;
	}
	child->slot = -1;
	child->next = node->children;
	node->children = child;
	return child;
}

/* Makes the hash table over the fields of a node anew. */
bool
build_table(Node *node)
{
	size_t		size = 4;
	Node	  **table;

	while (size < (size_t) node->nfields * 3)
		size *= 2;
	table = (Node **) calloc(size, sizeof(Node *));
	if (table == nullptr)
		return false;
	free(node->table);
	node->table = table;
	node->mask = size - 1;
	for (Node *child = node->children; child != nullptr; child = child->next)
	{
		if (child->name == nullptr)
			continue;

		size_t		i = hash_name(child->word, child->len);

		while (table[i & node->mask] != nullptr)
			i++;
		table[i & node->mask] = child;
	}
	return true;
}

/* Frees what hangs below a node. */
void
free_children(Node *node)
{
	Node	   *next;

	for (Node *child = node->children; child != nullptr; child = next)
	{
		next = child->next;
		free_children(child);
		free(child->name);
		free(child);
	}
	free(node->table);
}

/* The child of a node for a step, made if it is not there. */
Node *
get_child(Node *node, const KsJsonStep *step)
{
	for (Node *child = node->children; child != nullptr; child = child->next)
	{
		if (step->name == nullptr ? (child->name == nullptr && child->index == step->index) :
			(child->name != nullptr && child->len == step->len &&
			 memcmp(child->name, step->name, step->len) == 0))
			return child;
	}

	Node	   *child = add_child(node, step);

	if (child != nullptr && step->name != nullptr && !build_table(node))
		return nullptr;
	return child;
}

}								/* namespace */

/* Makes a scanner without paths. */
extern "C" KsJsonScanner *
ks_json_scanner_new(void)
{
	KsJsonScanner *scanner = new (std::nothrow) KsJsonScanner();

	if (scanner != nullptr)
		scanner->root.slot = -1;
	return scanner;
}

/* Frees a scanner; NULL is allowed. */
extern "C" void
ks_json_scanner_free(KsJsonScanner *scanner)
{
	if (scanner == nullptr)
		return;
	free_children(&scanner->root);
	free(scanner->buffer);
	free(scanner->keybuf);
	delete scanner;
}

/* Adds a path, see json_scan.h. */
extern "C" int
ks_json_scanner_add(KsJsonScanner *scanner, const KsJsonStep *steps, int nsteps)
{
	Node	   *node = &scanner->root;

	for (int i = 0; i < nsteps; i++)
	{
		node = get_child(node, &steps[i]);
		if (node == nullptr)
			return -1;
	}
	if (node->slot < 0)
		node->slot = scanner->nslots++;
	return node->slot;
}

/* Number of slots, see json_scan.h. */
extern "C" int
ks_json_scanner_nslots(const KsJsonScanner *scanner)
{
	return scanner->nslots;
}

/* Scans a document, see json_scan.h. */
extern "C" KsJsonStatus
ks_json_scan(KsJsonScanner *scanner, const char *doc, size_t len,
			 KsJsonToken *root, KsJsonToken *slots, KsJsonFault *fault)
{
	Walk		walk = {};
	uint32_t   *tokens;

	fault->reason = nullptr;
	fault->offset = 0;
	for (int i = 0; i < scanner->nslots; i++)
		slots[i].kind = KS_JSON_MISSING;
	scanner->nscans++;

	walk.status = tokenize(scanner, doc, len, fault);
	if (walk.status != KS_JSON_OK)
		return walk.status;

	/* the end of the text, a NUL, stops the walk wherever it is */
	tokens = scanner->tokenizer->structural_indexes.get();
	tokens[scanner->tokenizer->n_structural_indexes] = (uint32_t) len;
	tokens[scanner->tokenizer->n_structural_indexes + 1] = (uint32_t) len;

	walk.scanner = scanner;
	walk.slots = slots;
	walk.buf = scanner->buffer;
	walk.end = scanner->buffer + len;
	walk.escapes = (memchr(scanner->buffer, '\\', len) != nullptr);
	if (!walk_root(&walk, tokens, root))
	{
		fault->reason = walk.reason;
		fault->offset = (walk.where != nullptr) ? walk.where - walk.buf : 0;
	}
	return walk.status;
}
