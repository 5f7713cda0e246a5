"""The environment variables of the runtime process, and the command that starts it.

Source: "Defined runtime environment variables" in the Lambda guide, and the values recorded from
the real service. What users may set they win; what is reserved firelet wins.
"""

from __future__ import annotations

from dataclasses import dataclass

from firelet.model import limits
from firelet.model.function import FunctionVersion

API_ADDRESS = f"127.0.0.1:{limits.RUNTIME_API_PORT}"
LOG_FD = "3"
CLIENT = "/var/runtime/client"

_PATH = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
_LIBRARY_PATH = (
    "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
)
_EXEC_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"

# What an interpreter or the dynamic linker reads when a process starts, and a fork never again.
_START_UP_PREFIXES = ("PYTHON", "LD_")
_APPLIED_AFTER_FORK = ("PYTHONPATH",)


@dataclass(frozen=True, slots=True)
class SessionCredentials:
    """Temporary credentials of the execution role."""

    access_key: str
    secret_key: str
    session_token: str


def runtime_family(runtime: str | None) -> str:
    """``python``, ``nodejs``, ``provided`` …: the identifier without its version."""
    text = (runtime or "").partition(".")[0]
    return text.rstrip("0123456789")


def runtime_environment(
    version: FunctionVersion, log_stream: str, credentials: SessionCredentials
) -> dict[str, str]:
    """All variables that the runtime process of ``version`` sees."""
    family = runtime_family(version.runtime)
    environment = {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "PATH": _PATH,
        "LD_LIBRARY_PATH": _LIBRARY_PATH,
        "SHLVL": "0",
        "PWD": "/var/task",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
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
    environment.update(version.environment or {})
    environment.update(
        {
            "_HANDLER": version.handler or "",
            "LAMBDA_TASK_ROOT": "/var/task",
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "AWS_REGION": version.region,
            "AWS_DEFAULT_REGION": version.region,
            "AWS_LAMBDA_FUNCTION_NAME": version.name,
            "AWS_LAMBDA_FUNCTION_VERSION": version.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(version.memory_mib),
            "AWS_LAMBDA_LOG_GROUP_NAME": version.logging.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_RUNTIME_API": API_ADDRESS,
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_SESSION_TOKEN": credentials.session_token,
            "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1",
            "_AWS_XRAY_DAEMON_PORT": "2000",
        }
    )
    if family in ("python", "nodejs"):
        environment["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{version.runtime}"
        environment["_LAMBDA_TELEMETRY_LOG_FD"] = LOG_FD
    if version.logging.log_format == "JSON":
        environment["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        if version.logging.application_log_level:
            environment["AWS_LAMBDA_LOG_LEVEL"] = version.logging.application_log_level
    return environment


def runtime_command(version: FunctionVersion, bootstrap: str) -> tuple[str, ...] | None:
    """The runtime's command line; None when the preloaded Python client may be forked.

    ``bootstrap`` is the path of a custom runtime's executable inside the sandbox.
    """
    variables = version.environment or {}
    wrapper = variables.get(_EXEC_WRAPPER)
    family = runtime_family(version.runtime)
    if family == "python":
        if wrapper is None and not any(map(_acts_at_start_up, variables)):
            return None
        command: tuple[str, ...] = (
            f"/var/lang/bin/{version.runtime}",
            f"{CLIENT}/bootstrap.py",
        )
    elif family == "nodejs":
        command = ("/var/lang/bin/node", f"{CLIENT}/firelet/guest/node_runtime.cjs")
    else:
        command = (bootstrap,)
    return command if wrapper is None else (wrapper, *command)


def _acts_at_start_up(name: str) -> bool:
    return name.startswith(_START_UP_PREFIXES) and name not in _APPLIED_AFTER_FORK
