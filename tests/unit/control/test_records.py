"""What is kept of functions: fingerprints stay what they were when a release knows more."""

from __future__ import annotations

from dataclasses import replace

from firelet.control.records import fingerprint
from firelet.control.versions import last_published
from firelet.model.function import (
    Code,
    Function,
    FunctionVersion,
    LayerUse,
    LoggingConfig,
    S3Object,
)

LAYER = LayerUse(
    arn="arn:aws:lambda:eu-central-1:123456789012:layer:tools:1",
    code=Code(digest="cd" * 32, sha256="z" * 43 + "=", size=7),
)
VERSION = FunctionVersion(
    account="123456789012",
    region="eu-central-1",
    name="greeter",
    role="arn:aws:iam::123456789012:role/lambda",
    runtime="python3.12",
    handler="handler.handler",
    code=Code(digest="ab" * 32, sha256="q" * 43 + "=", size=123),
    layers=(LAYER,),
    environment={"A": "1", "B": "ü"},
    logging=LoggingConfig(log_group="/aws/lambda/greeter"),
    extras={"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}},
    last_modified="2026-11-23T07:00:00.000+0000",
    revision_id="r",
)
# What records hold that were written before packages could be given by reference.
STORED = "886a6ab9b417b513630b32eb485b2d178c5feaddf1a75a9576d60ea12fab3e81"


def test_what_was_published_by_an_older_release_is_not_published_again() -> None:
    assert fingerprint(VERSION) == STORED
    first = replace(VERSION, version="1")
    function = Function(latest=VERSION, versions={"1": first}, next_version=2, published=STORED)
    assert last_published(function) is first


def test_a_package_by_reference_is_another() -> None:
    reference = S3Object("bucket", "key", "v1")
    by_reference = replace(VERSION.code, reference=reference)
    other = replace(by_reference, reference=replace(reference, version="v2"))
    layer = replace(LAYER, code=replace(LAYER.code, reference=reference))
    versions = [
        VERSION,
        replace(VERSION, code=by_reference),
        replace(VERSION, code=other),
        replace(VERSION, layers=(layer,)),
    ]
    assert len({fingerprint(version) for version in versions}) == len(versions)
