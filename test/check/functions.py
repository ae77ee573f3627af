#!/usr/bin/env python3
"""functions.py DIR...: C and C++ functions that are too long or have no comment above.

Relies on the layout of PostgreSQL's own sources: a function's opening brace
stands alone in the first column, and so does the closing one.
"""
import os
import re
import sys

LONGEST = 100


def head_of(lines, brace):
    """First line of the definition whose body opens at index brace, or None if it is no function."""
    above = brace - 1
    text = lines[above].rstrip()
    if not re.search(r"\)(\s*(const|noexcept|override))*$", text):
        return None
    start = above
    while start > 0:
        before = lines[start - 1].rstrip()
        if before == "" or before.endswith(("*/", ";", "}")) or before.startswith(("#", "//", "{")):
            break
        start -= 1
    return start


def has_comment(lines, start):
    """True if a comment ends directly above the definition (macros that announce it may stand between)."""
    above = start - 1
    while above >= 0:
        text = lines[above].strip()
        if text == "" or re.match(r"(PG_FUNCTION_INFO_V1|PG_MODULE_MAGIC)", text):
            above -= 1
            continue
        return text.endswith("*/") or text.startswith("//")
    return False


def check(path):
    """Prints what breaks the rules in one file."""
    with open(path, encoding="utf-8") as source:
        lines = source.read().split("\n")
    for brace, text in enumerate(lines):
        if text.rstrip() != "{" or brace == 0:
            continue
        start = head_of(lines, brace)
        if start is None:
            continue
        end = next((i for i in range(brace, len(lines)) if lines[i].startswith("}")), len(lines))
        name = re.search(r"([A-Za-z_~][A-Za-z_0-9:]*)\s*\(", " ".join(lines[start:brace]))
        name = name.group(1) if name else "?"
        if end - brace + 1 > LONGEST:
            print(f"{path}:{start + 1}: {name} has {end - brace + 1} lines")
        if not has_comment(lines, start):
            print(f"{path}:{start + 1}: {name} has no comment above")


def main():
    """Walks the directories named on the command line."""
    for top in sys.argv[1:]:
        for folder, _, names in sorted(os.walk(top)):
            for name in sorted(names):
                if name.endswith((".c", ".cpp")):
                    check(os.path.join(folder, name))


main()
