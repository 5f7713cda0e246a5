"""How callers of the Logs API name things: groups by name or ARN, and places by tokens.

What it is: parsing of identifiers and of the tokens that this family has handed out. What it is
not: a look at whether the thing exists. Called by the Logs operation families.

Source: service model of ``logs``, LogGroupIdentifier and the paging members; AWS guide,
"CloudWatch Logs resources and operations" (ARN formats).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import orjson

from firelet.frontend.operations import Call
from firelet.observe.log_errors import InvalidLogParameter, LogGroupNotFound
from firelet.observe.log_records import GroupKey, Moment, Place, StreamKey

_ARN = re.compile(r"arn:aws[a-z-]*:logs:([a-z0-9-]+):(\d{12}):log-group:([^:*]+)(:\*)?")
_NAME = re.compile(r"[.\-_/#A-Za-z0-9]+")
_STREAM_TOKEN = re.compile(r"([fb])/(\d{36})(\d{20})/s")
_MOMENT_TOKEN = re.compile(r"([fb])/(\d{20})(\d{20})(\d{16})")


def format_group_arn(call: Call, name: str) -> str:
    """The ARN without the ``:*`` that stands for the group's streams."""
    return f"arn:aws:logs:{call.region}:{call.account}:log-group:{name}"


def find_group(call: Call) -> GroupKey:
    """The group that a call names by ``logGroupName`` or ``logGroupIdentifier``."""
    name, identifier = call.params.get("logGroupName"), call.params.get("logGroupIdentifier")
    if name is not None and identifier is not None:
        raise InvalidLogParameter("Cannot specify both logGroupName and logGroupIdentifier.")
    if identifier is not None:
        return parse_group(call, identifier)
    if name is None:
        raise InvalidLogParameter("Either logGroupName or logGroupIdentifier must be specified.")
    return GroupKey(call.account, call.region, name)


def parse_group(call: Call, identifier: str) -> GroupKey:
    """A group by name or by ARN, with or without ``:*``. Only the caller's own world exists."""
    if _NAME.fullmatch(identifier):
        return GroupKey(call.account, call.region, identifier)
    arn = _ARN.fullmatch(identifier)
    if arn is None:
        raise InvalidLogParameter("Invalid log group identifier.")
    region, account, name, _ = arn.groups()
    if (account, region) != (call.account, call.region):
        raise LogGroupNotFound
    return GroupKey(account, region, name)


def find_stream(call: Call) -> StreamKey:
    """The stream that a call names, in the group that it names."""
    group = find_group(call)
    return StreamKey(group.account, group.region, group.name, call.params["logStreamName"])


def format_event_id(moment: Moment) -> str:
    """56 digits, as on AWS; unlike there, they tell the event's time and place."""
    return f"{moment.timestamp_ms:020d}{moment.chunk:020d}{moment.offset:016d}"


def format_moment_token(moment: Moment, *, is_forward: bool) -> str:
    """Where a page of FilterLogEvents ended, and in which direction it went."""
    return f"{'f' if is_forward else 'b'}/{format_event_id(moment)}"


def parse_moment_token(token: str) -> tuple[Moment, bool]:
    """The moment, and whether the page goes forward."""
    found = _MOMENT_TOKEN.fullmatch(token)
    if found is None:
        _refuse_token()
    direction, *digits = found.groups()
    moment = Moment(*map(int, digits))
    if max(moment) >= 2**62:
        _refuse_token()
    return moment, direction == "f"


def format_stream_token(gap: Place, *, is_forward: bool) -> str:
    """Where a page of GetLogEvents ended, in the shape of AWS's tokens."""
    return f"{'f' if is_forward else 'b'}/{gap.chunk:036d}{gap.offset:020d}/s"


def parse_stream_token(token: str) -> tuple[Place, bool]:
    """The gap, and whether the page goes forward."""
    found = _STREAM_TOKEN.fullmatch(token)
    if found is None:
        _refuse_token()
    direction, chunk, offset = found.groups()
    gap = Place(int(chunk), int(offset))
    if max(gap) >= 2**62:
        _refuse_token()
    return gap, direction == "f"


def format_list_token(last: tuple[int, str]) -> str:
    """The last item of a page of a list: a number to sort by, and its name."""
    return base64.urlsafe_b64encode(orjson.dumps(last)).decode("ascii")


def parse_list_token(params: Mapping[str, Any]) -> tuple[int, str] | None:
    """The item after which the page begins; None for the first page."""
    token = params.get("nextToken")
    if token is None:
        return None
    try:
        last = orjson.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        _refuse_token()
    match last:
        case [int(number), str(name)] if abs(number) < 2**62:
            return number, name
    _refuse_token()


def _refuse_token() -> NoReturn:
    raise InvalidLogParameter("The specified nextToken is invalid.")
