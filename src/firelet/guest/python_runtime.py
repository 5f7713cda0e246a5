"""firelet's Lambda runtime client for Python: runs in the sandbox, on the function's interpreter.

It behaves as AWS's own client does. Importing this module has no side effect, so that a zygote can
import it once; ``run`` is called in each forked child (``pid1``) or in a fresh interpreter
(``python_bootstrap``), with the function's environment already in ``os.environ``.
Source: AWS guide, "Building a custom runtime", and the observed behaviour of the official client.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import partial

from firelet.guest import python_restore
from firelet.guest.python_context import FunctionEnvironment, LambdaContext
from firelet.guest.python_fault import Fault, describe
from firelet.guest.python_handler import load_handler
from firelet.guest.python_logging import (
    CurrentInvocation,
    ErrorLog,
    open_sink,
    set_up_logging,
    unbuffer_standard_streams,
)
from firelet.guest.python_payload import ResultFormatter, parse_event
from firelet.guest.python_preload import preload
from firelet.guest.python_streaming import GENERATOR, post_stream
from firelet.guest.runtime_client import RuntimeApi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, NoReturn, Sequence

    from firelet.guest.python_handler import Handler
    from firelet.guest.runtime_client import Invocation

__all__ = ["preload", "run"]

_INITIALIZATION_TYPE = "AWS_LAMBDA_INITIALIZATION_TYPE"
_TRACE_ID = "_X_AMZN_TRACE_ID"
_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# What AWS logs before the error of a failed INIT, word for word: log filters look for it.
_INIT_FAILED_WARNING = (
    "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code. "
    "However, in rare cases, a Lambda runtime update can cause unexpected function behavior. "
    "For functions using managed runtimes, runtime updates can be triggered by a function change, "
    "or can be applied automatically. To determine if the runtime has been updated, check the "
    "runtime version in the INIT_START log entry. If this error correlates with a change in the "
    "runtime version, you may be able to mitigate this error by temporarily rolling back to the "
    "previous runtime version. For more information, see "
    "https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html\r"
)


def run() -> NoReturn:
    """Initialises the function and serves invocations for as long as the process lives.

    Reads os.environ; replaces sys.path and the standard streams. Ends only by an exception:
    SystemExit(1) after an init error was reported, what the function's code raises past
    ``except Exception`` (SystemExit, KeyboardInterrupt), or RuntimeApiError.
    """
    unbuffer_standard_streams()
    current = CurrentInvocation()
    errors = set_up_logging(os.environ, open_sink(os.environ), current)
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    is_snapshot = os.environ.get(_INITIALIZATION_TYPE) == "snap-start"
    try:
        _use_search_path(function_search_path(os.environ, sys.path))
        handler = load_handler(os.environ["_HANDLER"])
        if is_snapshot:
            python_restore.run_before_snapshot()
    except Exception as error:
        report = describe(error)
        logging.warning(_INIT_FAILED_WARNING)
        document = report.document("")
        errors.write(document)
        api.post_init_error(json.dumps(document).encode(), report.error_type)
        sys.exit(1)
    if is_snapshot:
        python_restore.become_clone(api, errors)
    runtime = _Runtime(api, handler, current, errors)
    while True:
        runtime.serve(api.next_invocation())


def function_search_path(environ: Mapping[str, str], interpreter: Sequence[str]) -> list[str]:
    """AWS's sys.path: code, layers, PYTHONPATH, the runtime directory, then the interpreter's own.

    ``interpreter`` is the path that the interpreter came with; what is not its own is dropped.
    """
    version = "python{}.{}".format(*sys.version_info[:2])
    task_root = environ.get("LAMBDA_TASK_ROOT", "/var/task")
    runtime_directory = environ.get("LAMBDA_RUNTIME_DIR", "/var/runtime")
    first = [task_root, f"/opt/python/lib/{version}/site-packages", "/opt/python"]
    extra = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # How this file itself was found: no part of the interpreter.
    own = {"", _PACKAGE_ROOT, os.path.dirname(os.path.abspath(sys.argv[0]))}
    path = [*first, *extra, runtime_directory, *(name for name in interpreter if name not in own)]
    return list(dict.fromkeys(path))


def _use_search_path(path: list[str]) -> None:
    sys.path[:] = path
    for entry in path:
        # Code and layers were mounted after the zygote may have looked at these directories. The
        # interpreter's own stay cached: to list them again would cost each start 0.2 ms.
        if not entry.startswith(sys.base_prefix):
            sys.path_importer_cache.pop(entry, None)


class _Runtime:
    """One initialised function and what it needs to serve an invocation."""

    def __init__(
        self, api: RuntimeApi, handler: Handler, current: CurrentInvocation, errors: ErrorLog
    ) -> None:
        self._api = api
        self._handler = handler
        self._current = current
        self._errors = errors
        self._function = FunctionEnvironment(os.environ)
        self._results = ResultFormatter(os.environ.get("AWS_EXECUTION_ENV", ""))

    def serve(self, invocation: Invocation) -> None:
        """One invocation, to its answer. A method of its own: nothing of the event outlives it."""
        self._current.request_id = invocation.request_id
        self._current.tenant_id = invocation.tenant_id
        if invocation.trace_id:
            os.environ[_TRACE_ID] = invocation.trace_id
        else:
            os.environ.pop(_TRACE_ID, None)
        try:
            context = LambdaContext(
                invocation,
                self._function,
                _parse_header(invocation.client_context, "Client Context"),
                _parse_header(invocation.cognito_identity, "Cognito Identity"),
            )
            event = parse_event(invocation.body, invocation.content_type)
            result = self._handler(event, context)
            if type(result) is GENERATOR:
                post_stream(self._api, invocation, result, partial(self._report, invocation))
                return
            body, content_type = self._results.format_result(result)
        except Exception as error:
            self._fail(invocation, error)
        else:
            self._api.post_response(invocation, body, content_type)

    def _report(self, invocation: Invocation, error: Exception) -> tuple[bytes, str]:
        """An error in the middle of a streamed response: its document and type."""
        report = describe(error)
        document = report.document(invocation.request_id)
        self._errors.write(document)
        return self._results.format_json(document), report.error_type

    def _fail(self, invocation: Invocation, error: Exception) -> None:
        report = describe(error)
        document = report.document(invocation.request_id)
        self._errors.write(document)
        body = self._results.format_json(document)
        self._api.post_error(invocation, body, report.error_type, report.xray_cause())


def _parse_header(text: str | None, name: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise Fault(
            "Runtime.LambdaContextUnmarshalError", f"Unable to parse {name} JSON: {error}"
        ) from None
    return value
