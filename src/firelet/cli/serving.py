"""The process that is the platform: its loop, its log and its signals.

What it is: what ``firelet up`` does once its flags are read; a module of its own because asyncio
and logging would slow down every other command. What it is not: the platform (``app``).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from firelet.app.config import PlatformConfig, load_config
from firelet.app.standalone import serve
from firelet.cli.failure import CliError
from firelet.model.errors import FireletError

log = logging.getLogger(__name__)


def run_platform(flags: Mapping[str, Any], *, file: Path | None, is_verbose: bool) -> None:
    """Runs until SIGINT or SIGTERM. CliError says why the platform did not start or ended."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if is_verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    try:
        config = load_config(flags, file=file)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_until_signalled(config))
    except (FireletError, OSError, ExceptionGroup) as error:
        log.debug("platform ended", exc_info=True)
        cause = _first_cause(error)
        if not isinstance(cause, FireletError | OSError):
            raise
        if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
            raise CliError("the port is taken: choose another with --port") from None
        raise CliError(f"cannot run: {cause}") from None


async def _serve_until_signalled(config: PlatformConfig) -> None:
    """A signal cancels ``serve``, which ends its sandboxes before it returns."""
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(serve(config, _announce))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _first_cause(error: BaseException) -> BaseException:
    """What went wrong first: a task group wraps even a single error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _announce(url: str) -> None:
    """The only line on stdout: programs that start firelet wait for it."""
    print(f"ready {url}", flush=True)
