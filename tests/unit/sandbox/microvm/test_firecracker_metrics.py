"""Lines that Firecracker writes about itself."""

from __future__ import annotations

import pytest

from firelet.sandbox.microvm.firecracker_metrics import parse_last

FIRST = '{"utc_timestamp_ms":1,"vsock":{"rx_bytes_count":5,"new":1},"of_a_later_version":{}}\n'
SECOND = '{"utc_timestamp_ms":2,"latencies_us":{"vmm_load_snapshot":900}}\n'


def test_the_last_whole_line_counts() -> None:
    found = parse_last(FIRST + SECOND + '{"utc_timest')
    assert found is not None
    assert (found.utc_timestamp_ms, found.latencies_us.vmm_load_snapshot) == (2, 900)
    assert found.vsock.rx_bytes_count == 0


def test_what_is_not_known_is_passed_over() -> None:
    found = parse_last(FIRST)
    assert found is not None
    assert found.vsock.rx_bytes_count == 5


@pytest.mark.parametrize("text", ["", "\n", '{"utc_timestamp_ms":1'])
def test_without_a_whole_line_there_is_nothing(text: str) -> None:
    assert parse_last(text) is None


@pytest.mark.parametrize("text", ["no json\n", '{"vcpu":{}}\n', '{"utc_timestamp_ms":"1"}\n'])
def test_a_line_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        parse_last(text)
