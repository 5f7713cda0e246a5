"""The rules about functions from container images, and what stands for their code. Pure.

Called by ``control.configuration`` and ``control.functions``.
Source: the sentence about Handler, Runtime and Layer is one that users of the service quote, for
instance in issue 5439 of pulumi/pulumi-aws; the other sentences are firelet's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from firelet.model import limits
from firelet.model.errors import InvalidParameterValue, ResourceConflict
from firelet.model.function import Code, FunctionVersion
from firelet.model.image import Image


def check_package_type(version: FunctionVersion) -> None:
    """What does not go with the package type."""
    if version.image is None:
        if "ImageConfig" in version.extras:
            raise InvalidParameterValue(
                "Please don't provide ImageConfig when the intended function PackageType is Zip."
            )
        return
    if version.runtime is not None or version.handler is not None or version.layers:
        raise InvalidParameterValue(
            "Please don't provide Handler or Runtime or Layer when the intended function"
            " PackageType is Image."
        )
    if version.snap_start != "None":
        raise InvalidParameterValue(
            "SnapStart is not supported for functions whose PackageType is Image."
        )


def check_image_config(config: Mapping[str, Any]) -> None:
    """Its size, as JSON. Source: quotas of the guide, container image settings."""
    size = len(json.dumps(dict(config)))
    if size > limits.IMAGE_SETTINGS_MAX_BYTES:
        raise InvalidParameterValue(
            f"ImageConfig must not be larger than {limits.IMAGE_SETTINGS_MAX_BYTES} bytes; it has"
            f" {size}."
        )


def describe_image(image: Image) -> Code:
    """What AWS reports as the code of an image: the digest of its manifest, and no size."""
    return Code(digest=image.digest, sha256=image.digest, size=0)


def check_not_signed(code_signing: str | None) -> None:
    """Code signing is for packages. Source: code signing page of the guide."""
    if code_signing is not None:
        raise InvalidParameterValue(
            "Code signing is not supported for functions whose PackageType is Image."
        )


def check_same_type(version: FunctionVersion, package: bytes | Image) -> None:
    """A function stays what it was created as. Its callers know; but it may have been deleted and
    created anew meanwhile."""
    if isinstance(package, Image) != (version.image is not None):
        raise ResourceConflict(f"The function {version.name} was replaced meanwhile.")
