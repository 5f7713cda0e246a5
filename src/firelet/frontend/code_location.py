"""Where the package of a function or of a layer version can be had, as answers say it.

Called by the families of functions and of layers. Source: recorded GetFunction answers, in which a
package by reference has its object and no link.
"""

from __future__ import annotations

from typing import Any

from firelet.frontend.codelink import CodeLinks
from firelet.frontend.operations import Call
from firelet.model.function import Code


def format_location(links: CodeLinks, call: Call, code: Code) -> dict[str, Any]:
    """A link that is good for ten minutes; or the object that the caller has named."""
    reference = code.reference
    if reference is None:
        return {"Location": links.make(call.base_url, code.digest)}
    return {
        "ResolvedS3Object": {
            "S3Bucket": reference.bucket,
            "S3Key": reference.key,
            "S3ObjectVersion": reference.version,
        }
    }
