"""Java on this host: the JDKs found, and firelet's Java client compiled for them.

The client is source (``guest/java``), compiled once by a JDK's own ``javac`` into a jar that is
kept by the digest of the sources. Without any ``javac`` there is no Java runtime.
Source: the ``release`` file of a JDK, JEP 223.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from firelet.model.errors import InvalidRuntime
from firelet.model.runtimes import OFFERED
from firelet.sandbox.interpreter import Interpreter

SOURCES = Path(__file__).resolve().parent.parent / "guest" / "java"

_OLDEST = 11
_RELEASE = re.compile(r'^JAVA_VERSION="(?:1\.)?(\d+)', re.MULTILINE)
_COMPILE_TIMEOUT_S = 120.0
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest moment that a zip can hold


def java_homes(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Directories that may hold a Java, the most specific first."""
    variables = os.environ if environment is None else environment
    candidates = [Path(variables["JAVA_HOME"])] if variables.get("JAVA_HOME") else []
    on_path = shutil.which("java", path=variables.get("PATH"))
    if on_path is not None:
        candidates.append(Path(on_path).resolve().parent.parent)
    home = Path(variables.get("HOME", "/nonexistent"))
    for base, pattern in (
        (Path("/usr/lib/jvm"), "*"),
        (home, ".sdkman/candidates/java/*"),
        (home, ".jdks/*"),
        (home, ".asdf/installs/java/*"),
    ):
        try:
            candidates += sorted(base.glob(pattern))
        except OSError:
            continue  # a home that may not be read
    return list(dict.fromkeys(path.resolve() for path in candidates))


def find_javas(homes: Iterable[Path]) -> Iterator[Interpreter]:
    """One Java per version: the first home that has it wins. None without a ``javac``."""
    found: dict[int, Path] = {}
    for home in homes:
        version = _version_of(home)
        if version is not None and version >= _OLDEST:
            found.setdefault(version, home)
    if not any(has_compiler(home) for home in found.values()):
        return
    for version, home in found.items():
        for name in (f"java{version}", f"java{version}.al2023"):
            if name in OFFERED:
                yield Interpreter(name, "java", home, "bin/java")


def has_compiler(home: Path) -> bool:
    return (home / "bin" / "javac").is_file()


def ensure_client(interpreters: Iterable[Interpreter], store: Path) -> Path:
    """The jar of the client; compiled now if these sources have not been yet. Blocks: call it in a
    thread. InvalidRuntime when the compiler cannot be run or does not like the sources."""
    sources = sorted(path for path in SOURCES.rglob("*.java"))
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    jar = store / f"java-{digest.hexdigest()[:32]}.jar"
    if jar.is_file():
        return jar
    homes = [item.prefix for item in interpreters if item.family == "java" and item.prefix]
    compiler = next((home / "bin" / "javac" for home in homes if has_compiler(home)), None)
    if compiler is None:
        raise InvalidRuntime("No javac is left on this host to compile the Java client.")
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store, prefix=".java-") as scratch:
        classes = Path(scratch, "classes")
        _compile(compiler, sources, classes)
        made = Path(scratch, "client.jar")
        _pack(classes, made)
        made.rename(jar)
    return jar


def _version_of(home: Path) -> int | None:
    """By the file in which a JDK says what it is: nothing is executed to find Java."""
    if not (home / "bin" / "java").is_file():
        return None
    try:
        match = _RELEASE.search((home / "release").read_text(errors="replace"))
    except OSError:
        return None
    return None if match is None else int(match[1])


def _compile(compiler: Path, sources: Iterable[Path], target: Path) -> None:
    command = [str(compiler), "--release", str(_OLDEST), "-nowarn", "-d", str(target)]
    try:
        subprocess.run(
            [*command, *map(str, sources)],
            capture_output=True,
            text=True,
            timeout=_COMPILE_TIMEOUT_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise InvalidRuntime(f"{compiler} failed: {error.stderr.strip()[:500]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InvalidRuntime(f"{compiler} could not be run: {error}") from None


def _pack(classes: Path, jar: Path) -> None:
    """Uncompressed, which a JVM opens sooner."""
    with zipfile.ZipFile(jar, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(classes.rglob("*.class")):
            entry = zipfile.ZipInfo(path.relative_to(classes).as_posix(), _EPOCH)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, path.read_bytes())
