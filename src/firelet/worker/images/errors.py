"""What can be wrong with an image, in words for the operator and with AWS's code for the state."""

from __future__ import annotations

from firelet.model.errors import ImageFault


class BadImage(ImageFault):
    """It is not in order: a digest that differs, a hostile layer, too large …"""


class UnsupportedImage(BadImage):
    """A media type that is not served. AWS has a sentence for this one."""


class ImageNotFound(ImageFault):
    """There is no such image, tag or blob."""

    reason_code = "ImageDeleted"


class ImageAccessDenied(ImageFault):
    """The registry does not let us."""

    reason_code = "ImageAccessDenied"


class RegistryFailed(ImageFault):
    """The registry cannot be reached, or does not keep to its protocol."""

    reason_code = "InternalError"
