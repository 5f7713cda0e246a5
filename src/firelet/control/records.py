"""Functions as documents: how the registry's values look in the store.

The kinds carry a version number; a change that old records cannot be read with gets a new one.
Published versions have documents of their own, because they never change and there may be many.
Called by ``control.catalog`` only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from firelet.control.difference import Difference
from firelet.model.function import Function, FunctionKey, FunctionVersion, without_state
from firelet.store.documents import Delete, Put

FUNCTION = "lambda.function.v1"
VERSION = "lambda.function-version.v1"
NUMBERING = "lambda.function-numbering.v1"


def format_key(key: FunctionKey, version: str | None = None) -> str:
    """Key of a document. None of the parts can contain a slash."""
    return "/".join(key if version is None else (*key, version))


def parse_key(text: str) -> FunctionKey:
    account, region, name, *_ = text.split("/")
    return (account, region, name)


def encode_function(function: Function) -> bytes:
    """Everything but the published versions."""
    return msgspec.json.encode(replace(function, versions={}))


def decode_function(body: bytes) -> Function:
    return msgspec.json.decode(body, type=Function)


def encode_version(version: FunctionVersion) -> bytes:
    return msgspec.json.encode(version)


def decode_version(body: bytes) -> FunctionVersion:
    return msgspec.json.decode(body, type=FunctionVersion)


def encode_number(number: int) -> bytes:
    return msgspec.json.encode(number)


def decode_number(body: bytes) -> int:
    return msgspec.json.decode(body, type=int)


def fingerprint(version: FunctionVersion) -> str:
    """Digest of what a version runs and how; equal when publishing again would change nothing.

    It is kept in the records of functions. A member that records have got since is left out of it
    where it has its default: what was published before must not look changed.
    """
    bare = msgspec.to_builtins(replace(without_state(version), version=""))
    for code in (bare["code"], *(layer["code"] for layer in bare["layers"])):
        if code["reference"] is None:
            del code["reference"]
    if bare["image"] is None:
        del bare["image"]
    del bare["isolation"]  # from the function's tags, which are no part of what is published
    return hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()


def changes(change: Difference) -> Iterator[Put | Delete]:
    """What turns the documents of the one state into those of the other."""
    before, after = change.before, change.after
    if after is not None:
        yield Put(FUNCTION, format_key(after.key), encode_function(after))
        for version in change.entered:
            key = format_key(after.key, version.version)
            yield Put(VERSION, key, encode_version(version))
    elif before is not None:
        yield Delete(FUNCTION, format_key(before.key))
        if before.next_version > 1:
            yield Put(NUMBERING, format_key(before.key), encode_number(before.next_version))
    for version in change.left:
        if after is None or version.version not in after.versions:
            yield Delete(VERSION, format_key(version.function_key, version.version))
