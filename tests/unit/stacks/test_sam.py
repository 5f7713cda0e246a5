"""Code at local paths, and the SAM transform."""

from __future__ import annotations

from pathlib import Path

import pytest

from firelet.stacks.errors import StackError
from firelet.stacks.sam import LOCAL_BUCKET, take_in_code, transform

SAM = "AWS::Serverless-2016-10-31"


def pack(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.zip").write_bytes(b"one")
    return tmp_path


def test_a_path_becomes_the_digest_of_what_it_holds(folder: Path) -> None:
    document = {
        "Globals": {"Function": {"Timeout": 3}},
        "Resources": {
            "F": {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": "a.zip"}},
            "G": {"Type": "AWS::Lambda::Function", "Properties": {"Code": "a.zip"}},
            "H": {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": "s3://b/k"}},
            "T": {"Type": "AWS::DynamoDB::Table"},
        },
    }
    taken, packages = take_in_code(document, folder, pack)
    ((key, zipped),) = packages.items()
    assert zipped == b"one"
    resources = taken["Resources"]
    assert resources["F"]["Properties"]["CodeUri"] == {"Bucket": LOCAL_BUCKET, "Key": key}
    assert resources["G"]["Properties"]["Code"] == {"S3Bucket": LOCAL_BUCKET, "S3Key": key}
    assert resources["H"]["Properties"]["CodeUri"] == "s3://b/k"
    (folder / "a.zip").write_bytes(b"two")
    assert take_in_code(document, folder, pack)[1].keys() != packages.keys()


def test_code_that_is_not_there_is_named(folder: Path) -> None:
    resources = {"F": {"Type": "AWS::Lambda::Function", "Properties": {"Code": "none/"}}}
    with pytest.raises(StackError, match="the code of F is not there"):
        take_in_code({"Resources": resources}, folder, pack)


def test_sam_is_expanded_without_the_users_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("samtranslator", reason="the extra `sam` is missing")
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    document = {
        "Transform": SAM,
        "Resources": {
            "F": {
                "Type": "AWS::Serverless::Function",
                "Properties": {
                    "CodeUri": {"Bucket": "b", "Key": "k"},
                    "Handler": "a.b",
                    "Runtime": "python3.13",
                    "Policies": ["Known"],
                },
            }
        },
    }
    translated = transform(document, {}, "eu-west-1", lambda: {"Known": "arn:known"})
    assert "Transform" not in translated
    types = {name: item["Type"] for name, item in translated["Resources"].items()}
    assert types == {"F": "AWS::Lambda::Function", "FRole": "AWS::IAM::Role"}
    assert "arn:known" in translated["Resources"]["FRole"]["Properties"]["ManagedPolicyArns"]


def test_what_sam_refuses_is_told_in_its_words() -> None:
    pytest.importorskip("samtranslator", reason="the extra `sam` is missing")
    document = {"Transform": SAM, "Resources": {"F": {"Type": "AWS::Serverless::Function"}}}
    with pytest.raises(StackError, match="F"):
        transform(document, {}, "eu-west-1", dict)
