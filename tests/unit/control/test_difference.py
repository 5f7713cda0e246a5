"""What a change of a function adds and takes away, against a recount of the whole function."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from firelet.control.difference import difference
from firelet.model.function import Code, Function, FunctionVersion, LoggingConfig
from registry_parts import ACCOUNT, REGION, ROLE


def make_version(number: str, code: int) -> FunctionVersion:
    return FunctionVersion(
        account=ACCOUNT,
        region=REGION,
        name="greeter",
        version=number,
        role=ROLE,
        runtime="python3.12",
        handler="app.handler",
        code=Code(digest=f"{code:064x}", sha256="", size=code),
        logging=LoggingConfig(log_group="/aws/lambda/greeter"),
        last_modified="",
        revision_id="",
    )


codes = st.integers(1, 5)
versions = st.dictionaries(st.integers(1, 6).map(str), codes).map(
    lambda found: {number: make_version(number, code) for number, code in found.items()}
)


@st.composite
def functions(draw: st.DrawFn) -> Function:
    serving = draw(st.none() | codes)
    return Function(
        latest=make_version("$LATEST", draw(codes)),
        serving=None if serving is None else make_version("$LATEST", serving),
        versions=draw(versions),
        reserved_concurrency=draw(st.none() | st.integers(0, 9)),
    )


def digests(function: Function | None) -> Counter[str]:
    if function is None:
        return Counter()
    records = [function.latest, *function.versions.values()]
    if function.serving is not None:
        records.append(function.serving)
    return Counter(record.code.digest for record in records)


def totals(function: Function | None) -> tuple[int, int, int]:
    if function is None:
        return (0, 0, 0)
    published = sum(version.code.size for version in function.versions.values())
    return (1, function.latest.code.size + published, function.set_aside)


@given(st.none() | functions(), st.none() | functions(), st.data())
def test_a_difference_is_what_a_recount_would_find(
    before: Function | None, after: Function | None, data: st.DataObject
) -> None:
    if before is not None and after is not None:
        kept = data.draw(st.sets(st.sampled_from(list(before.versions) or ["none"])))
        shared = {n: v for n, v in before.versions.items() if n in kept}
        after = replace(after, versions={**after.versions, **shared})
    change = difference(before, after)
    growth = [new - old for old, new in zip(totals(before), totals(after), strict=True)]
    assert [change.functions, change.code_bytes, change.set_aside] == growth
    count = digests(before)
    count.update(change.entered_digests)
    count.subtract(change.left_digests)
    assert +count == digests(after)
    assert min(count.values(), default=0) >= 0


def test_versions_that_stay_are_not_looked_into() -> None:
    kept = {str(number): make_version(str(number), number) for number in range(1, 1_001)}
    before = Function(latest=make_version("$LATEST", 1), versions=kept)
    new = make_version("1001", 3)
    change = difference(before, replace(before, versions={**kept, "1001": new}))
    assert (change.left, change.entered) == ((), (new,))
    assert difference(before, replace(before, tags={"a": "b"})).entered == ()
