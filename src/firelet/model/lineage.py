"""Lineage: how often a chain of requests has passed each function, kept in the trace header.

    X-Amzn-Trace-Id: Root=1-…;Sampled=0;Lineage=a87bd80c:1|68fd508a:5

Each entry is a function's id and the number of its invocations before this one. Pure.
Source: docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html, "Tracing header"; AWS guide,
"Use Lambda recursive loop detection". How AWS makes the ids is not public.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from firelet.model import limits
from firelet.model.errors import RecursiveInvocation

_MEMBER = "Lineage="
_ENTRIES_MAX = 32  # a header has its limits, too: the functions passed first are forgotten
_ID_DIGITS = 8
_REMEMBERED_MAX = 4_096


@lru_cache(_REMEMBERED_MAX)
def lineage_id(function_arn: str) -> str:
    """The id of a function, from its unqualified ARN."""
    return hashlib.sha256(function_arn.encode()).hexdigest()[:_ID_DIGITS]


def pass_function(header: str, identity: str, *, is_loop_allowed: bool) -> str:
    """The trace header for an invocation of a function, from the one of its request.

    RecursiveInvocation when the chain has passed the function so often that it must be a loop,
    unless that is allowed.
    """
    at = header.find(_MEMBER)
    if at < 0:
        return f"{header};{_MEMBER}{identity}:0"
    rest, _, after = header[at + len(_MEMBER) :].partition(";")
    counts = _parse(rest)
    passed = counts.pop(identity, -1) + 1
    if passed >= limits.RECURSION_MAX and not is_loop_allowed:
        raise RecursiveInvocation(
            "Lambda has detected your function being invoked in a recursive loop with other"
            " Amazon Web Services resources and stopped your function's invocation."
        )
    counts[identity] = passed
    entries = [f"{name}:{count}" for name, count in counts.items()]
    lineage = f"{header[:at]}{_MEMBER}{'|'.join(entries[-_ENTRIES_MAX:])}"
    return f"{lineage};{after}" if after else lineage


def _parse(text: str) -> dict[str, int]:
    """What is not an entry is left out: the header comes from callers."""
    counts = {}
    for entry in text.split("|"):
        name, _, count = entry.rpartition(":")
        if name and count.isascii() and count.isdigit() and len(count) < _ID_DIGITS:
            counts[name.rpartition(":")[2]] = int(count)
    return counts
