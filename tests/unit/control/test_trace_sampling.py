"""Which requests are traced: what the caller has decided, else the first of a second and some."""

from __future__ import annotations

import re

import pytest

from firelet.control.targets import find_target
from firelet.control.trace_sampling import TraceSampler, pass_through
from firelet.model.function import Function
from firelet.model.lineage import lineage_id
from unit.versions import make_version

ROOT = "Root=1-5759e988-bd862e3fe1be46a994272793"
TRACED = rf"{ROOT};Parent=[0-9a-f]{{16}};Sampled=1"


def test_the_first_request_of_a_second_is_traced_and_a_share_of_the_others() -> None:
    clock, draws = [10.2], iter([0.5, 0.04, 0.05, 0.9])
    sampler = TraceSampler(lambda: clock[0], lambda: next(draws))
    seen = [sampler.sample(ROOT) for _ in range(4)]
    assert [bool(re.fullmatch(TRACED, header)) for header in seen] == [True, False, True, False]
    assert seen[1] == f"{ROOT};Sampled=0"
    clock[0] = 11.0
    assert re.fullmatch(TRACED, sampler.sample(ROOT))


def test_what_the_caller_has_decided_stands() -> None:
    sampler = TraceSampler(lambda: 0.0, lambda: 0.0)
    assert sampler.sample(f"{ROOT};Sampled=0") == f"{ROOT};Sampled=0"
    traced = sampler.sample(f"{ROOT};Parent=53995c3f42cd8ad8;Sampled=1")
    assert re.fullmatch(TRACED, traced)
    assert "53995c3f42cd8ad8" not in traced, "the function's own segment is the parent"


@pytest.mark.parametrize("decision", ["Sampled=0", "Sampled=1"])
def test_without_active_tracing_the_context_only_passes(decision: str) -> None:
    assert pass_through(f"{ROOT};{decision}") == f"{ROOT};{decision}"
    assert pass_through(ROOT) == f"{ROOT};Sampled=0"


@pytest.mark.parametrize(("mode", "expected"), [("Active", TRACED), ("PassThrough", None)])
def test_an_invocation_is_traced_as_its_version_is_configured(
    mode: str, expected: str | None
) -> None:
    version = make_version(tracing_mode=mode)
    target = find_target(Function(latest=version), None)
    assert target is not None
    lineage = f";Lineage={lineage_id(version.unqualified_arn)}:0"
    assert re.fullmatch((expected or f"{ROOT};Sampled=0") + lineage, target.first.trace(ROOT))
