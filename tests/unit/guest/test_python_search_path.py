"""sys.path inside a Python function."""

from __future__ import annotations

import sys

from firelet.guest.python_runtime import function_search_path

SITE = f"/opt/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
INTERPRETER = ["/var/lang/lib/python3.zip", "/var/lang/lib/python3"]


def test_code_comes_before_layers_before_the_runtime_before_the_interpreter() -> None:
    assert function_search_path({}, INTERPRETER) == [
        "/var/task",
        SITE,
        "/opt/python",
        "/var/runtime",
        *INTERPRETER,
    ]


def test_pythonpath_comes_after_the_layers_and_nothing_is_twice() -> None:
    environ = {"PYTHONPATH": "/var/runtime:/var/task/lib:", "LAMBDA_TASK_ROOT": "/var/task"}
    path = function_search_path(environ, ["/var/task/lib", "/var/runtime", *INTERPRETER])
    assert path == [
        "/var/task",
        SITE,
        "/opt/python",
        "/var/runtime",
        "/var/task/lib",
        *INTERPRETER,
    ]


def test_the_interpreters_notion_of_the_current_directory_is_dropped() -> None:
    assert "" not in function_search_path({}, ["", *INTERPRETER])
