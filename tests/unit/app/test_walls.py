"""firelet does not start behind weaker walls than it was told to accept."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from firelet.app.config import PlatformConfig, load_config
from firelet.app.preflight import (
    check_address,
    check_file_systems,
    check_isolation,
    check_walls,
)
from firelet.linux.kvm import KvmVerdict
from firelet.model.errors import IsolationMissing, PlatformError
from firelet.model.isolation import Isolation
from firelet.sandbox.host import Finding, HostFacts, Level
from firelet.sandbox.microvm import offer
from firelet.sandbox.microvm.config import Egress
from firelet.sandbox.microvm.offer import MicrovmProbe

ACCESS_POINT = (
    "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-0123456789abcdef0"
)
OK = Finding("kernel", Level.OK, "Linux 6.18", "fine")
NO_CGROUPS = Finding("cgroups", Level.WEAKER, "no hierarchy", "memory is limited per process")
NO_KVM = KvmVerdict(False, False, "/dev/kvm does not exist")
NO_SECCOMP = Finding("seccomp", Level.MISSING, "no library", "functions are not run")


def facts(*findings: Finding) -> HostFacts:
    return HostFacts(
        findings=(OK, *findings), is_rootless=True, cgroup_version=None, interpreters={}
    )


@pytest.fixture
def config(tmp_path: Path) -> PlatformConfig:
    return PlatformConfig(data_dir=tmp_path)


def test_a_host_that_keeps_every_wall_is_accepted(config: PlatformConfig) -> None:
    check_walls(facts(), config)


def test_a_weaker_wall_is_refused_with_the_flag_that_accepts_it(config: PlatformConfig) -> None:
    with pytest.raises(PlatformError, match="--accept cgroups"):
        check_walls(facts(NO_CGROUPS), config)


def test_a_weaker_wall_is_accepted_by_name_only(config: PlatformConfig) -> None:
    check_walls(facts(NO_CGROUPS), replace(config, accept=frozenset({"cgroups"})))
    with pytest.raises(PlatformError, match="cgroups"):
        check_walls(facts(NO_CGROUPS), replace(config, accept=frozenset({"seccomp"})))


def test_a_missing_wall_cannot_be_accepted(config: PlatformConfig) -> None:
    with pytest.raises(PlatformError, match="no library"):
        check_walls(facts(NO_SECCOMP), replace(config, accept=frozenset({"seccomp"})))


def test_microvms_are_refused_where_something_of_them_is_missing(config: PlatformConfig) -> None:
    probe = MicrovmProbe(config.microvms, NO_KVM)
    with pytest.raises(IsolationMissing, match="guest-images: make one with `firelet image"):
        check_isolation(Isolation.MICROVM, probe)


def test_nothing_of_microvms_is_asked_of_a_host_whose_functions_do_not_want_them(
    config: PlatformConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offer, "probe_kvm", lambda: pytest.fail("a guest was tried"))
    check_isolation(Isolation.NAMESPACES, MicrovmProbe(config.microvms))


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::"])
def test_an_address_beyond_loopback_is_refused(config: PlatformConfig, host: str) -> None:
    with pytest.raises(PlatformError, match="loopback"):
        check_address(replace(config, host=host))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_addresses_are_served(config: PlatformConfig, host: str) -> None:
    check_address(replace(config, host=host))


class TestFileSystems:
    def test_a_directory_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        for place in (tmp_path / "missing", Path("relative")):
            with pytest.raises(PlatformError, match=rf"{place}: not a directory\.$"):
                check_file_systems({ACCESS_POINT: place}, is_rootless=False)

    @pytest.mark.parametrize(("uid", "gid"), [(0, 1_000), (1_000, 0)])
    def test_functions_do_not_act_as_root_or_in_its_group(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, gid: int
    ) -> None:
        check_file_systems({ACCESS_POINT: tmp_path}, is_rootless=True)
        mode = tmp_path.stat().st_mode
        owner = os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))
        monkeypatch.setattr(Path, "stat", lambda _path, **_options: owner)
        with pytest.raises(PlatformError, match="which belongs to root"):
            check_file_systems({ACCESS_POINT: tmp_path}, is_rootless=False)


class TestConfig:
    def test_flags_beat_the_environment_which_beats_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "firelet.toml"
        file.write_text('[firelet]\nport = 1\nregion = "eu-west-1"\nembryos = 5\n')
        environment = {"HOME": str(tmp_path), "FIRELET_PORT": "2", "FIRELET_REGION": "eu-north-1"}
        config = load_config({"port": 3, "host": None}, environment=environment, file=file)
        assert (config.port, config.region, config.embryos) == (3, "eu-north-1", 5)
        assert config.host == "127.0.0.1"

    def test_an_unknown_setting_is_named_with_where_it_stands(self, tmp_path: Path) -> None:
        file = tmp_path / "firelet.toml"
        file.write_text("[firelet]\nprot = 1\n")
        with pytest.raises(PlatformError, match=r"firelet\.toml sets prot"):
            load_config({}, environment={"HOME": str(tmp_path)}, file=file)

    def test_a_bad_value_is_named_with_where_it_stands(self, tmp_path: Path) -> None:
        with pytest.raises(PlatformError, match="the environment sets port to 'x'"):
            load_config({}, environment={"HOME": str(tmp_path), "FIRELET_PORT": "x"})

    def test_file_systems_are_a_table_or_one_text(self, tmp_path: Path) -> None:
        file = tmp_path / "firelet.toml"
        file.write_text(f'[firelet.file_systems]\n"{ACCESS_POINT}" = "/srv/shared"\n')
        environment = {"HOME": str(tmp_path)}
        from_table = load_config({}, environment=environment, file=file)
        environment["FIRELET_FILE_SYSTEMS"] = f"{ACCESS_POINT}=/srv/shared"
        from_text = load_config({}, environment=environment)
        assert from_table.file_systems == {ACCESS_POINT: Path("/srv/shared")}
        assert from_text.file_systems == from_table.file_systems
        environment["FIRELET_FILE_SYSTEMS"] = "nonsense"
        with pytest.raises(PlatformError, match="the environment sets file_systems to 'nonsense'"):
            load_config({}, environment=environment)

    def test_trusted_certificates_are_a_list_or_one_text(self, tmp_path: Path) -> None:
        file = tmp_path / "firelet.toml"
        file.write_text('[firelet]\nsigning_trust = ["/etc/a.pem", "/etc/b.pem"]\n')
        environment = {"HOME": str(tmp_path)}
        from_table = load_config({}, environment=environment, file=file)
        environment["FIRELET_SIGNING_TRUST"] = "/etc/a.pem, /etc/b.pem"
        from_text = load_config({}, environment=environment)
        assert from_table.signing_trust == (Path("/etc/a.pem"), Path("/etc/b.pem"))
        assert from_text.signing_trust == from_table.signing_trust

    def test_names_are_taken_apart_at_commas(self, tmp_path: Path) -> None:
        config = load_config({"accept": "cgroups, tun"}, environment={"HOME": str(tmp_path)})
        assert config.accept == {"cgroups", "tun"}

    @pytest.mark.parametrize("value", ["0", "-1", "nan", "much"])
    def test_a_ratio_is_greater_than_nothing(self, tmp_path: Path, value: str) -> None:
        environment = {"HOME": str(tmp_path), "FIRELET_MEMORY_OVERCOMMIT": value}
        with pytest.raises(PlatformError, match="sets memory_overcommit"):
            load_config({}, environment=environment)

    def test_without_a_fixed_time_the_policy_decides(self, tmp_path: Path) -> None:
        environment = {"HOME": str(tmp_path)}
        assert load_config({}, environment=environment).idle_stop_after_s == math.inf
        environment["FIRELET_IDLE_STOP_AFTER_S"] = "60"
        assert load_config({}, environment=environment).idle_stop_after_s == 60

    def test_a_way_out_that_there_is_not_is_refused_with_those_that_there_are(
        self, tmp_path: Path
    ) -> None:
        environment = {"HOME": str(tmp_path), "FIRELET_MICROVM_EGRESS": "all"}
        with pytest.raises(PlatformError, match="to 'all': it must be one of none, nat"):
            load_config({}, environment=environment)
        environment["FIRELET_MICROVM_EGRESS"] = "nat"
        assert load_config({}, environment=environment).microvm_egress is Egress.NAT

    def test_one_process_is_the_default(self, tmp_path: Path) -> None:
        assert load_config({}, environment={"HOME": str(tmp_path)}).workers == 0

    def test_a_number_of_workers_is_not_negative(self, tmp_path: Path) -> None:
        with pytest.raises(PlatformError, match="workers"):
            load_config({"workers": "-1"}, environment={"HOME": str(tmp_path)})
