"""The rules about FileSystemConfigs. Pure.

Called by ``control.functions``. The sentence about a missing access point is worded after those
that the service is known to have for EC2 and S3; those about the VPC are AWS's own.
Source: what users of the service quote, in pull request 4408 of aws-cloudformation/cfn-lint and
issue 1453 of aws/chalice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from firelet.model.errors import InvalidParameterValue
from firelet.model.function import FunctionVersion


def check_file_systems(configs: Sequence[Mapping[str, Any]], known: Collection[str]) -> None:
    """The rules about FileSystemConfigs. ``known`` are the ARNs that the operator has given a
    directory."""
    for config in configs:
        arn, path = config["Arn"], config["LocalMountPath"]
        if path.rpartition("/")[2] in (".", ".."):  # which the model's pattern allows
            raise InvalidParameterValue(f"The local mount path {path} is not a directory of /mnt.")
        if arn not in known:
            identity = arn.rpartition("/")[2]
            raise InvalidParameterValue(
                "Error occurred while DescribeAccessPoints. EFS Error Code: AccessPointNotFound."
                f" EFS Error Message: Access point {identity} does not exist."
            )


def check_network(version: FunctionVersion, before: FunctionVersion | None = None) -> None:
    """File systems are reached by way of a VPC. ``before`` is what ``version`` was made from."""
    if not version.file_systems or _has_network(version):
        return
    arn, _ = version.file_systems[0]
    if before is not None and before.file_systems and _has_network(before):
        raise InvalidParameterValue(
            f"Function VPC configuration cannot be removed with access point {arn} referenced."
        )
    raise InvalidParameterValue(
        f"Function must be configured to execute in a VPC to reference access point {arn}. Please"
        " update the function configuration to include VPC subnets and security groups."
    )


def _has_network(version: FunctionVersion) -> bool:
    vpc: Mapping[str, Any] = version.extras.get("VpcConfig") or {}
    return bool(vpc.get("SubnetIds"))
