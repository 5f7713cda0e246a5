"""SnapStart in the Python runtime client: hooks, the restore point, and what is new in a clone.

The hooks are those of AWS's package ``snapshot_restore_py``: before a snapshot the last registered
runs first, after a restore the first.
Called by ``python_runtime``. Source: AWS guide, "Lambda SnapStart runtime hooks for Python", and
the official client.
"""

from __future__ import annotations

import json
import os
import sys

from firelet.guest import clone_state, restore_point
from firelet.guest.python_fault import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from firelet.guest.python_logging import ErrorLog
    from firelet.guest.runtime_client import RuntimeApi

_HOOKS = "snapshot_restore_py"
_RESTORE_FAILED = 65  # the exit code of the official client


def run_before_snapshot() -> None:
    """The hooks, last one first. What one raises fails INIT."""
    hooks = _hooks("get_before_snapshot")
    while hooks:
        function, arguments, keywords = hooks.pop()
        function(*arguments, **keywords)


def become_clone(api: RuntimeApi, errors: ErrorLog) -> None:
    """Stops at the restore point; returns in each clone, made unlike its siblings and with its
    hooks run. A hook that raises ends the clone, after it was reported."""
    api.restore_next()
    told = restore_point.wait()
    os.environ.update(told["environment"])
    if "name" in told:
        clone_state.make_own()
    else:
        clone_state.reseed(is_machine=True)  # nothing else is shared with the clone of a machine
    try:
        for function, arguments, keywords in _hooks("get_after_restore"):
            function(*arguments, **keywords)
    except Exception as error:
        report = describe(error)
        document = report.document("")
        errors.write(document)
        api.post_restore_error(json.dumps(document).encode(), report.error_type)
        sys.exit(_RESTORE_FAILED)


def _hooks(getter: str) -> list[Any]:
    """Those that the function has registered: none if it never imported the package."""
    module = sys.modules.get(_HOOKS)
    hooks: list[Any] = [] if module is None else getattr(module, getter)()
    return hooks
