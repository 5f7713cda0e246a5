"""The decision whether a request is traced, in the trace header.

    X-Amzn-Trace-Id: Root=1-…;Parent=53995c3f42cd8ad8;Sampled=1

``Sampled`` is 1 or 0 once it has been decided; ``?`` or nothing asks the next one to decide, and
``Parent`` is what the function's own segments hang under. Pure.
Source: docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html, "Tracing header".
"""

from __future__ import annotations

_SAMPLED = "Sampled="
_PARENT = "Parent="
_DECISIONS = {"1": True, "0": False}


def find_decision(header: str) -> bool | None:
    """What has been decided; None when nobody has yet."""
    at = header.find(_SAMPLED)
    if at < 0:
        return None
    return _DECISIONS.get(header[at + len(_SAMPLED) :].partition(";")[0].strip())


def with_decision(header: str, *, is_sampled: bool) -> str:
    """The header with a decision in the place of what it had."""
    return _with_member(header, _SAMPLED, str(int(is_sampled)))


def with_parent(header: str, segment_id: str) -> str:
    """The header for what is called by a segment: 16 hex digits."""
    return _with_member(header, _PARENT, segment_id)


def _with_member(header: str, member: str, value: str) -> str:
    """``member`` is set where it stands, else after the root, which comes first."""
    at = header.find(member)
    if at >= 0:
        end = header.find(";", at)
        return f"{header[:at]}{member}{value}{'' if end < 0 else header[end:]}"
    root, _, rest = header.partition(";")
    return f"{root};{member}{value}{f';{rest}' if rest else ''}"
