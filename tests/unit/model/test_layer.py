"""Names of layer versions, and whom a policy allows what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model.layer import LayerPermission, format_layer_arn, parse_layer_version_arn

accounts = st.from_regex(r"[0-9]{12}", fullmatch=True)
regions = st.sampled_from(["us-east-1", "eu-central-1", "us-gov-west-1"])
names = st.from_regex(r"[a-zA-Z0-9-_]{1,140}", fullmatch=True)
numbers = st.integers(0, 10**9)


@given(accounts, regions, names, numbers)
def test_an_arn_is_read_as_it_was_written(
    account: str, region: str, name: str, number: int
) -> None:
    key = (account, region, name)
    assert parse_layer_version_arn(format_layer_arn(key, number)) == (key, number)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:lambda:us-east-1:123456789012:layer:tools",
        "arn:aws:lambda:us-east-1:123456789012:layer:tools:one",
        "arn:aws:lambda:us-east-1:123456789012:function:tools:1",
        "arn:aws:lambda:::awslayer:AmazonLinux1803",
    ],
)
def test_what_is_no_layer_version_is_none(arn: str) -> None:
    assert parse_layer_version_arn(arn) is None


@given(accounts, accounts)
def test_a_permission_allows_whom_it_names(account: str, other: str) -> None:
    root = f"arn:aws:iam::{account}:root"
    for principal in (account, root):
        assert LayerPermission("s1", principal).allows(account)
        assert LayerPermission("s1", principal).allows(other) == (other == account)
    assert LayerPermission("s1", "*").allows(other)
    assert not LayerPermission("s1", "*", "o-a1b2c3d4e5").allows(other)
