"""The control plane's figures as rows: which of them are judged, and by what."""

from __future__ import annotations

from bench.control import ControlPlane, Figures
from bench.control_rows import make_control_rows


def test_rows_judge_medians_growth_and_start_up() -> None:
    measured = ControlPlane(
        many=1_000,
        reads={"Get": Figures([0.5, 0.5, 9.0], [0.6, 0.6, 9.0], [0.1, 0.1, 0.1])},
        writes={"Put": Figures([5.0], [11.0], [0.5])},
        starts_s={100: [0.5, 3.0, 0.6], 1_000: [2.5]},
        loads_s=[0.2],
        versions_s=[1.0] * 500 + [2.0] * 500,
    )
    rows = {row.label: row for row in make_control_rows(measured)}
    verdicts = {label: (row.value, row.verdict(row.goal)) for label, row in rows.items()}
    assert verdicts == {
        "Get, p50": (0.6, "ok"),
        "reads, 1,000 functions / 100, p50, the worst": (1.2, "ok"),
        "Put, p50": (11.0, "MISSED"),
        "writes, 1,000 functions / 100, p50, the worst": (2.2, "MISSED"),
        "1,000 versions / the first": (2.0, "MISSED"),
        "start-up with 100 functions, p50": (0.6, "ok"),
        "start-up with 1,000 functions, p50": (2.5, "MISSED"),
        "of it, reading the functions, p50": (0.2, ""),
    }
    assert rows["Get, p50"].note == "1,000 functions; 6.0 floors; 3 calls"
