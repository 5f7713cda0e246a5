"""``firelet dev``: a folder is deployed again whenever a file in it is saved.

What it is: the loop of a developer. Only the function that changed gets new environments; those
of all others stay warm. What it is not: a second way to deploy; the steps are those of
``deploy``, and the platform initialises the new code ahead of its first call.
"""

from __future__ import annotations

import base64
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from firelet.cli.deployment import (
    create_or_update,
    name_of,
    parse_pairs,
    runtimes_of,
    settings_of,
    wait_until,
)
from firelet.cli.endpoint import Endpoint, EndpointOption, find_endpoint, reach
from firelet.cli.failure import CliError
from firelet.cli.guess import guess
from firelet.cli.invoke import describe_function_error, read_payload
from firelet.cli.package import (
    SKIPPED_FILES,
    SKIPPED_FOLDERS,
    SKIPPED_SUFFIXES,
    Package,
    open_package,
)
from firelet.cli.stack import is_template
from firelet.cli.terminal import format_duration, say

# Saves that come within the step are one change; an editor writes a file in a few of them.
_STEP_MS = 15
_LONGEST_STEP_MS = 300
# A change that came before the watch began is seen after the first of these.
_QUIET_MS = 500


def dev(
    source: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="What to deploy and watch.")],
    name: Annotated[str | None, typer.Option(help="Function name \\[that of the source].")] = None,
    runtime: Annotated[str | None, typer.Option(help="For example python3.12.")] = None,
    handler: Annotated[str | None, typer.Option(help="For example main.handler.")] = None,
    memory: Annotated[int | None, typer.Option(metavar="MIB", help="Memory [128].")] = None,
    timeout: Annotated[int | None, typer.Option(metavar="SECONDS", help="Timeout [3].")] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Environment variable; repeat.")
    ] = None,
    event: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE", help="Invoke with this event after each change."),
    ] = None,
    endpoint: EndpointOption = None,
) -> None:
    """Deploy a folder, and deploy it again whenever a file in it is saved; until Ctrl-C."""
    if is_template(source):
        raise CliError(f"{source} is a template: dev watches the code of one function")
    target = find_endpoint(endpoint)
    package = open_package(source)
    if runtime is None or handler is None:
        guessed = guess(package, lambda: runtimes_of(target))
        runtime, handler = runtime or guessed.runtime, handler or guessed.handler
    settings = settings_of(
        memory=memory, timeout=timeout, variables=parse_pairs(env or (), "--env")
    )
    settings |= {"Runtime": runtime, "Handler": handler}
    loop = DevLoop(target, name or name_of(source), read_payload(event) if event else None)
    loop.start(package, settings)
    stop = threading.Event()

    def interrupt(*_: object) -> None:
        # Both: the exception is lost if it comes while the interpreter cleans something up.
        stop.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    say(f"watching {source}; Ctrl-C ends")
    with contextlib.suppress(KeyboardInterrupt):
        for changed in watch(source, stop):
            loop.change(source, changed)
    say("no longer watching")


@dataclass(slots=True)
class DevLoop:
    """Deploys what changed. ``event`` is sent after each deployment, when there is one.

    A change that cannot be deployed is told and waited out: the next one may mend it.
    """

    endpoint: Endpoint
    function: str
    event: bytes | None = None
    _deployed: bytes = b""

    def start(self, package: Package, settings: dict[str, Any]) -> None:
        started = time.monotonic()
        with reach(self.endpoint):
            verb = create_or_update(self.endpoint, self.function, package, settings, None)
        self._deployed = package.zipped
        self._tell(f"{verb} {self.function}", started)

    def change(self, source: Path, changed: str) -> bool:
        """Whether new code was deployed. Content that is the same as before is not."""
        started = time.monotonic()
        try:
            package = open_package(source)
            if package.zipped == self._deployed:
                return False
            with reach(self.endpoint):
                functions = self.endpoint.client("lambda")
                functions.update_function_code(FunctionName=self.function, ZipFile=package.zipped)
                wait_until(functions, "function_updated_v2", self.function)
            self._deployed = package.zipped
            self._tell(f"{changed} → {self.function}", started)
        except CliError as error:
            say(f"{changed}: {error}")
            return False
        return True

    def _tell(self, what: str, started: float) -> None:
        say(f"{what} in {format_duration(time.monotonic() - started)}")
        if self.event is None:
            return
        called = time.monotonic()
        with reach(self.endpoint):
            answer = self.endpoint.client("lambda").invoke(
                FunctionName=self.function, LogType="Tail", Payload=self.event
            )
            body: bytes = answer["Payload"].read()
        took = format_duration(time.monotonic() - called)
        sys.stderr.write(base64.b64decode(answer.get("LogResult", "")).decode(errors="replace"))
        if answer.get("FunctionError"):
            say(describe_function_error(self.function, body))
        else:
            print(body.decode(errors="replace"), flush=True)
        say(f"answered in {took}")


def watch(source: Path, stop: threading.Event | None = None) -> Iterator[str]:
    """The name of a file for each batch of saves below a folder, or of one file; until ``stop``.

    One empty name comes soon after the start: what changed before the kernel watched.
    """
    import watchfiles

    root = source if source.is_dir() else source.parent
    only = None if source.is_dir() else source.resolve()
    is_first = True
    for changes in watchfiles.watch(
        root,
        watch_filter=lambda _, path: is_of_package(Path(path), root.resolve(), only),
        step=_STEP_MS,
        debounce=_LONGEST_STEP_MS,
        rust_timeout=_QUIET_MS,
        yield_on_timeout=True,
        stop_event=stop,
    ):
        names = sorted(Path(path).name for _, path in changes)
        if names:
            yield names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        elif is_first:
            yield source.name
        is_first = False


def is_of_package(path: Path, root: Path, only: Path | None) -> bool:
    """Whether a path below ``root`` goes into the package."""
    if only is not None:
        return path == only
    if path.name in SKIPPED_FILES or path.name.endswith(SKIPPED_SUFFIXES):
        return False
    return not SKIPPED_FOLDERS.intersection(path.relative_to(root).parts)
