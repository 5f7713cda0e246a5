"""Container images on their way in: what a request names is looked up before anything is written.

What it is not: the images themselves (``worker.images``). Called by ``frontend.functions``.
Source: sentences that users of the service quote: "is not valid" in pull request 2419 of
ministryofjustice/modernisation-platform, "does not exist" in issue 27963 of hashicorp/terraform,
"is not supported" in issue 25 of midrender/examples. What follows a colon, and the sentence about
an image that is not in order, are firelet's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from firelet.model.errors import (
    AccessDenied,
    FireletError,
    ImageFault,
    InvalidParameterValue,
    PlatformError,
)
from firelet.model.image import Image
from firelet.worker.images.errors import (
    ImageAccessDenied,
    ImageNotFound,
    RegistryFailed,
    UnsupportedImage,
)
from firelet.worker.images.store import ImageNameInvalid

_ZIP_MEMBERS = ("ZipFile", "S3Bucket", "S3Key", "S3ObjectVersion")


class ImageResolver(Protocol):
    """Where images are looked up."""

    async def resolve(self, uri: str, architecture: str) -> Image:
        """What a name stands for now. ImageFault."""


class ImageIntake:
    """Turns the code members of a request into an image."""

    def __init__(self, resolver: ImageResolver) -> None:
        self._resolver = resolver

    async def accept(self, code: Mapping[str, Any], verb: str, architecture: str) -> Image:
        """The image that ``FunctionCode`` (or UpdateFunctionCode) names. ``verb`` is "creating" or
        "updating", for the sentence. CallerError; PlatformError when the registry fails."""
        uri = code.get("ImageUri")
        if not uri or any(code.get(member) for member in _ZIP_MEMBERS):
            raise InvalidParameterValue(
                f"Please provide ImageUri when {verb} a function with packageType Image."
            )
        try:
            return await self._resolver.resolve(uri, architecture)
        except ImageFault as fault:
            raise _refusal(uri, fault) from fault


def _refusal(uri: str, fault: ImageFault) -> FireletError:
    if isinstance(fault, ImageNotFound):
        return InvalidParameterValue(
            f"Source image {uri} does not exist. Provide a valid source image."
        )
    if isinstance(fault, UnsupportedImage):
        return InvalidParameterValue(
            f"The image manifest, config or layer media type for the source image {uri} is not"
            f" supported: {fault.message}."
        )
    if isinstance(fault, ImageAccessDenied):
        return AccessDenied(
            "Lambda does not have permission to access the ECR image. Check the ECR permissions."
        )
    if isinstance(fault, RegistryFailed):
        return PlatformError(f"The source image {uri} cannot be looked up: {fault.message}.")
    if isinstance(fault, ImageNameInvalid):
        return InvalidParameterValue(
            f"Source image {uri} is not valid. Provide a valid source image: {fault.message}."
        )
    return InvalidParameterValue(f"Source image {uri} is not in order: {fault.message}.")
