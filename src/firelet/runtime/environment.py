"""The environment variables of the runtime process, and the command that starts it.

Source: "Defined runtime environment variables" in the Lambda guide, and the values recorded from
the real service. What users may set they win; what is reserved firelet wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from firelet.model import limits
from firelet.model.function import FunctionVersion, InitializationType
from firelet.model.image import ImageProcess, image_process
from firelet.model.layout import (
    INTERPRETER_LIBRARIES,
    JAVA_CLIENT,
    LIBRARY_PATH,
    NODE_RUNTIME,
    PYTHON_BOOTSTRAP,
    RUBY_RUNTIME,
)
from firelet.runtime.api import CREDENTIALS_PATH
from firelet.runtime.credentials import SessionCredentials

API_ADDRESS = f"127.0.0.1:{limits.RUNTIME_API_PORT}"
LOG_FD = "3"

_PATH = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
_EXEC_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"

_NOT_FOR_EXTENSIONS = frozenset(
    {
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
        "PWD",
        "SHLVL",
    }
)


@dataclass(frozen=True, slots=True)
class _StartUpVariables:
    """What an interpreter or the dynamic linker reads when its process starts, and a preloaded one
    never again; ``applied`` are those that the client applies later all the same."""

    prefixes: tuple[str, ...]
    applied: tuple[str, ...]

    def acts(self, name: str) -> bool:
        return name.startswith(self.prefixes) and name not in self.applied


_START_UP_VARIABLES = {
    "python": _StartUpVariables(("PYTHON", "LD_"), ("PYTHONPATH",)),
    "nodejs": _StartUpVariables(("NODE_", "LD_", "UV_"), ("NODE_PATH", "NODE_ENV")),
}


def runtime_family(runtime: str | None) -> str:
    """``python``, ``nodejs``, ``provided`` …: the identifier without its version."""
    text = (runtime or "").partition(".")[0]
    return text.rstrip("0123456789")


def runtime_environment(
    version: FunctionVersion,
    log_stream: str,
    credentials: SessionCredentials,
    initialization: InitializationType = InitializationType.ON_DEMAND,
    authorization: str = "",
) -> dict[str, str]:
    """All variables that the runtime process of ``version`` sees. With SnapStart, where they are
    as old as the snapshot, credentials are fetched with ``authorization`` instead."""
    family = runtime_family(version.runtime)
    environment = {
        "TZ": ":UTC",
        "SHLVL": "0",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        **(_base_environment(version) if version.image is None else _image_environment(version)),
        **(version.environment or {}),
    }
    if version.image is None and (
        INTERPRETER_LIBRARIES not in environment["LD_LIBRARY_PATH"].split(":")
    ):
        # An interpreter with a shared library of its own does not start without it.
        environment["LD_LIBRARY_PATH"] += f":{INTERPRETER_LIBRARIES}"
    process = image_process_of(version)
    handler = version.handler if process is None else next(iter(process.command), None)
    environment.update(
        {
            "_HANDLER": handler or "",
            "LAMBDA_TASK_ROOT": "/var/task",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "AWS_REGION": version.region,
            "AWS_DEFAULT_REGION": version.region,
            "AWS_LAMBDA_FUNCTION_NAME": version.name,
            "AWS_LAMBDA_FUNCTION_VERSION": version.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(version.memory_mib),
            "AWS_LAMBDA_INITIALIZATION_TYPE": initialization.value,
            "AWS_LAMBDA_RUNTIME_API": API_ADDRESS,
            "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1",
            "_AWS_XRAY_DAEMON_PORT": "2000",
        }
    )
    if initialization is InitializationType.SNAP_START:
        environment.update(restored_environment(authorization))
    else:
        environment.update(
            {
                "AWS_LAMBDA_LOG_GROUP_NAME": version.logging.log_group,
                "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
                "AWS_ACCESS_KEY_ID": credentials.access_key,
                "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
                "AWS_SESSION_TOKEN": credentials.session_token,
            }
        )
    if family in ("python", "nodejs", "java", "ruby"):
        environment["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{version.runtime}"
    if family in ("python", "nodejs"):
        environment["_LAMBDA_TELEMETRY_LOG_FD"] = LOG_FD
    elif version.image is not None:
        environment["AWS_EXECUTION_ENV"] = "AWS_Lambda_Image"
    if version.logging.log_format == "JSON":
        environment["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        if version.logging.application_log_level:
            environment["AWS_LAMBDA_LOG_LEVEL"] = version.logging.application_log_level
    return environment


def image_process_of(version: FunctionVersion) -> ImageProcess | None:
    """What a version from an image runs, its ImageConfig taken into account."""
    if version.image is None:
        return None
    return image_process(version.image, version.extras.get("ImageConfig") or {})


def _base_environment(version: FunctionVersion) -> dict[str, str]:
    """What AWS's own runtimes begin with."""
    family = runtime_family(version.runtime)
    environment = {
        "LANG": "en_US.UTF-8",
        "PATH": _PATH,
        "LD_LIBRARY_PATH": LIBRARY_PATH,
        "PWD": "/var/task",
    }
    if family == "python":
        environment["PYTHONPATH"] = "/var/runtime"
        environment["LC_CTYPE"] = "C.UTF-8"
    elif family == "nodejs":
        major = (version.runtime or "").removeprefix("nodejs").partition(".")[0]
        environment["NODE_PATH"] = (
            f"/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:"
            "/var/runtime/node_modules:/var/runtime:/var/task"
        )
    elif family == "ruby":
        abi = f"{(version.runtime or '').removeprefix('ruby')}.0"
        environment["GEM_HOME"] = "/var/runtime"
        environment["GEM_PATH"] = f"/var/task/vendor/bundle/ruby/{abi}:/opt/ruby/gems/{abi}"
        environment["RUBYLIB"] = "/var/task:/var/runtime/lib:/opt/ruby/lib"
    return environment


def _image_environment(version: FunctionVersion) -> dict[str, str]:
    """What an image brings: its own variables, and where its process starts."""
    process = image_process_of(version)
    assert version.image is not None
    assert process is not None
    return {**version.image.variables, "PWD": process.working_directory}


def restored_environment(authorization: str) -> dict[str, str]:
    """What is new in each clone of a snapshot."""
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{API_ADDRESS}{CREDENTIALS_PATH}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": authorization,
    }


def extension_environment(runtime: Mapping[str, str]) -> dict[str, str]:
    """What external extensions see of the variables of the runtime process.

    Source: Lambda guide, "Lambda Extensions API": all but these, and the emulator: nothing whose
    name begins with an underscore.
    """
    return {
        name: value
        for name, value in runtime.items()
        if name not in _NOT_FOR_EXTENSIONS and not name.startswith(("_", "AWS_XRAY_"))
    }


def runtime_command(version: FunctionVersion, bootstrap: str) -> tuple[str, ...] | None:
    """The command line of a start of its own; None when the preloaded client of the runtime does.

    ``bootstrap`` is the path of a custom runtime's executable inside the sandbox.
    """
    variables = version.environment or {}
    wrapper = variables.get(_EXEC_WRAPPER)
    family = runtime_family(version.runtime)
    plain = plain_command(version, bootstrap)
    if wrapper is not None:
        return (wrapper, *plain)
    at_start = _START_UP_VARIABLES.get(family)
    if at_start is None or any(map(at_start.acts, variables)):
        return plain
    return None


def plain_command(version: FunctionVersion, bootstrap: str) -> tuple[str, ...]:
    """The command line that starts the runtime from nothing."""
    variables = version.environment or {}
    family = runtime_family(version.runtime)
    if family == "python":
        return (f"/var/lang/bin/{version.runtime}", PYTHON_BOOTSTRAP)
    if family == "nodejs":
        return ("/var/lang/bin/node", NODE_RUNTIME)
    if family == "java":
        return java_command(version.memory_mib, variables.get("JAVA_TOOL_OPTIONS", ""))
    if family == "ruby":
        return ("/var/lang/bin/ruby", RUBY_RUNTIME)
    return (bootstrap,)


# Ours, and by which words in the function's own options they are replaced.
_JAVA_OPTIONS = (
    ("-XX:MaxHeapSize={heap_kib}k", r"-Xmx|MaxHeapSize|MaxRAM"),
    ("-XX:+UseSerialGC", r"Use\w+GC"),
    ("-XX:TieredStopAtLevel=1", r"Tiered"),
    ("-XX:-UsePerfData", r"UsePerfData"),
    ("-Xshare:auto", r"-Xshare"),
    # Where the library org.crac finds the hooks of SnapStart.
    ("-Dorg.crac.Core.Compat=com.amazonaws.services.lambda.crac", r"org\.crac\.Core\.Compat"),
)


def java_command(memory_mib: int, own_options: str) -> tuple[str, ...]:
    """The JVM as AWS sets it: a heap of 85 % of the memory, one thread to collect it, the quick
    compiler only. ``own_options`` are the function's JAVA_TOOL_OPTIONS, which the JVM reads by
    itself, but before the command line: what they say is left out there."""
    heap_kib = memory_mib * 1_024 * 85 // 100
    options = tuple(
        option.format(heap_kib=heap_kib)
        for option, words in _JAVA_OPTIONS
        if not re.search(words, own_options)
    )
    return ("/var/lang/bin/java", *options, "-cp", JAVA_CLIENT, "firelet.runtime.Bootstrap")
