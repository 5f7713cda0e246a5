"""Runtime identifiers that AWS knows: their families, what is still offered, what never was.

What it is: tables and questions about an identifier. What it is not: what this host can run;
``sandbox.interpreters`` finds that out. Called by the registry when a function is configured.

Source: service model, shape Runtime; docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html;
the order of ``OFFERED`` is that of a recorded error message.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

# New functions may use these. Some are deprecated, and AWS has not yet blocked them.
OFFERED = (
    "nodejs20.x",
    "python3.14",
    "provided.al2023",
    "python3.12",
    "python3.13",
    "nodejs24.x",
    "nodejs22.x",
    "java25",
    "python3.10",
    "python3.11",
    "java21",
    "ruby3.3",
    "ruby3.4",
    "ruby3.2",
    "python3.8",
    "python3.9",
    "java17",
    "nodejs16.x",
    "dotnet10",
    "dotnet8",
    "java11",
    "dotnet6",
    "nodejs18.x",
    "provided.al2",
    "java8.al2",
    "nodejs26.x",
    "python3.15",
    "ruby4.0",
    "java8.al2023",
    "java11.al2023",
    "java17.al2023",
)

# Functions can no longer be created or updated with these.
BLOCKED = frozenset(
    {
        "nodejs",
        "nodejs4.3",
        "nodejs4.3-edge",
        "nodejs6.10",
        "nodejs8.10",
        "nodejs10.x",
        "nodejs12.x",
        "nodejs14.x",
        "java8",
        "python2.7",
        "python3.6",
        "python3.7",
        "dotnetcore1.0",
        "dotnetcore2.0",
        "dotnetcore2.1",
        "dotnetcore3.1",
        "go1.x",
        "ruby2.5",
        "ruby2.7",
        "provided",
    }
)

# A runtime of the customer's own, made with the service lambda-core.
CUSTOM = "custom"

_FAMILIES = ("nodejs", "python", "java", "dotnet", "ruby", "go", "provided")
_SNAP_START_JAVA = frozenset(
    {"java11", "java17", "java21", "java25", "java11.al2023", "java17.al2023"}
)
_SNAP_START_DOTNET = frozenset({"dotnet8", "dotnet10"})
_SNAP_START_PYTHON_MINOR = 12


def runtime_family(runtime: str) -> str | None:
    """``python`` for ``python3.12``; None for an identifier of no known family."""
    return next((family for family in _FAMILIES if runtime.startswith(family)), None)


def supports_snap_start(runtime: str) -> bool:
    """Whether AWS offers SnapStart: Java from 11, Python from 3.12, .NET from 8.

    Source: docs.aws.amazon.com/lambda/latest/dg/snapstart.html.
    """
    if runtime.startswith("python3."):
        minor = runtime.removeprefix("python3.")
        return minor.isdigit() and int(minor) >= _SNAP_START_PYTHON_MINOR
    return runtime in _SNAP_START_JAVA or runtime in _SNAP_START_DOTNET


@lru_cache(256)
def format_runtime_version_arn(region: str, runtime: str) -> str:
    """The ARN in RuntimeVersionConfig. AWS numbers builds by 64 hex digits; firelet has one build
    of a runtime, so that the digits follow from its identifier and never change."""
    digest = hashlib.sha256(f"firelet runtime {runtime}".encode()).hexdigest()
    return f"arn:aws:lambda:{region}::runtime:{digest}"
