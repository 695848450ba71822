"""devices.toml: what it means, every way to get it wrong, and which units a name picks."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import registry as registries
from harness.errors import ConfigError, UnknownDevice
from harness.model import Device, DeviceType, Limits, QemuBoard, SshAddress

ROOT = Path(__file__).resolve().parents[2]

GOOD = """
[types.host]
[types.rpi4]
description = "A board"
cores = 4
ram_bytes = "4 GiB"
requires_evidence = ["throttle_bits", "temp"]
python = "/usr/bin/python3.11"

[devices.local]
type = "host"
kind = "local"

[devices.rpi4-emulated]
type = "rpi4"
kind = "qemu"
tags = ["emulated"]

[devices.rpi4-small]
type = "rpi4"
[devices.rpi4-small.qemu]
memory_bytes = "1 GiB"
smp = 1

[devices.rpi4-01]
type = "rpi4"
serial = "10000000a1b2c3d4"
tags = ["bench-a", "cooled"]
home = "/home/pi/.harness"
pinned_cpus = [3]
timeout_s = "2 min"
[devices.rpi4-01.ssh]
host = "rpi4-01.lan"
port = 2222
user = "pi"
identity_path = "keys/id_ed25519"
host_key = "SHA256:jE2MkSxfIwBNbkPrvBvUcP2VqfRhlTZQTtUUUlSxCD4"
connect_timeout_s = 5
[devices.rpi4-01.ssh.jump]
host = "gateway.lan"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "devices.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(tmp_path: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        registries.load_registry(write(tmp_path, text))
    return caught.value.problems


def test_governor_and_limits_are_the_types_unless_the_unit_has_its_own(tmp_path):
    text = """
[types.rpi4]
governor = "performance"
[types.rpi4.limits]
max_cpu_pressure = "20 %"
max_start_temp = "55 °C"
[types.host]
[devices.one]
type = "rpi4"
kind = "qemu"
[devices.two]
type = "rpi4"
kind = "qemu"
governor = "ondemand"
[devices.local]
type = "host"
kind = "local"
"""
    devices = registries.load_registry(write(tmp_path, text)).devices
    assert [devices[n].governor for n in ("one", "two", "local")] == ["performance", "ondemand", None]
    assert devices["one"].type.limits == Limits(max_cpu_pressure_ratio=0.2, max_start_temp_c=55.0)
    assert devices["one"].type.limits.max_other_busy_ratio == 0.5
    assert devices["local"].type.limits == Limits()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('governor = "Performance!"', "types.t.governor: 'Performance!' is no cpufreq governor's name"),
        ("governor = 1", "types.t.governor: expected a string, got 1"),
        ("[types.t.limits]\nmax_cpu_pressure = 30", "limits.max_cpu_pressure: expected a ratio from 0 to 1"),
        ('[types.t.limits]\nmax_other_busy = "-1 %"', "limits.max_other_busy: expected 0 or more"),
        ('[types.t.limits]\nmax_start_temp = "55 F"', "limits.max_start_temp: unknown unit `F`"),
        ("[types.t.limits]\nmax_start_temp = 55000", 'expected "-40 °C" to "125 °C", got 55000'),
        ("[types.t.limits]\nmax_load = 1", "types.t.limits.max_load: unknown key"),
    ],
)
def test_a_governor_or_limit_that_makes_no_sense(tmp_path, text, problem):
    device = '[devices.d]\ntype = "t"\nkind = "local"\n'
    (found,) = problems_of(tmp_path, device + "[types.t]\n" + text)
    assert problem in found


def test_a_registry_as_records(tmp_path):
    registry = registries.load_registry(write(tmp_path, GOOD))
    rpi4 = DeviceType("rpi4", "A board", 4, 4 << 30, ("throttle_bits", "temp"), "/usr/bin/python3.11")
    assert dict(registry.types) == {"host": DeviceType("host"), "rpi4": rpi4}
    assert registry.devices["local"] == Device(
        "local", registry.types["host"], "local", where="devices.local in devices.toml"
    )
    assert registry.devices["rpi4-emulated"].qemu == QemuBoard()
    assert registry.devices["rpi4-small"].kind == "qemu"
    assert registry.devices["rpi4-small"].qemu == QemuBoard(memory_bytes=1 << 30, smp=1)
    assert registry.devices["rpi4-01"] == Device(
        name="rpi4-01",
        type=rpi4,
        kind="ssh",
        serial="10000000a1b2c3d4",
        tags=("bench-a", "cooled"),
        ssh=SshAddress(
            host="rpi4-01.lan",
            port=2222,
            user="pi",
            identity_path=tmp_path / "keys" / "id_ed25519",
            host_key="SHA256:jE2MkSxfIwBNbkPrvBvUcP2VqfRhlTZQTtUUUlSxCD4",
            jump=SshAddress("gateway.lan"),
            connect_timeout_s=5.0,
        ),
        home="/home/pi/.harness",
        pinned_cpus=(3,),
        timeout_s=120.0,
        where="devices.rpi4-01 in devices.toml",
    )


def test_the_home_of_the_user_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/lab")
    text = GOOD.replace('"keys/id_ed25519"', '"~/.ssh/id"')
    ssh = registries.load_registry(write(tmp_path, text)).devices["rpi4-01"].ssh
    assert ssh is not None
    assert ssh.identity_path == Path("/home/lab/.ssh/id")


def test_the_shipped_registry_is_in_order_with_its_examples():
    path = ROOT / "devices.toml"
    registry = registries.load_registry(path)
    assert set(registry.devices) == {"local", "rpi4-emulated", "rpi5-emulated"}
    (unit,) = registries.select(registry, "rpi4")
    assert unit.kind == "qemu"


def test_the_shipped_examples_work_when_uncommented(tmp_path):
    lines = (ROOT / "devices.toml").read_text(encoding="utf-8").splitlines()
    examples = [line.removeprefix("# ") for line in lines if line.startswith(("# [", "# ")) and "=" in line]
    tables = [line.removeprefix("# ") for line in lines if line.startswith("# [")]
    assert len(tables) == 7
    body = [
        line.removeprefix("# ") if line.startswith("# [") or line.removeprefix("# ") in examples else line
        for line in lines
    ]
    registry = registries.load_registry(write(tmp_path, "\n".join(body)))
    assert {"rpi4-01", "rpi4-02"} <= set(registry.devices)
    assert registry.devices["rpi4-02"].ssh.jump.user == "lab"
    assert [spec.kind for spec in registry.devices["rpi4-01"].instruments] == ["shelly", "scpi"]
    assert [device.name for device in registries.select(registry, "rpi4")] == ["rpi4-01", "rpi4-02"]


# --- what is wrong

HOST = "[types.host]\n"
UNIT = HOST + '[devices.u]\ntype = "host"\n'
SSH = UNIT + '[devices.u.ssh]\nhost = "h"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[device.u]", "device: unknown key; did you mean `devices`?"),
        ("schema_version = 9", "schema_version: this harness reads 1, got 9"),
        (HOST, "holds no device"),
        (HOST + '[devices.u]\ntype = "hsot"\nkind = "local"', "no device type `hsot`; did you mean `host`?"),
        (HOST + '[devices.u]\nkind = "local"', "devices.u.type: is missing"),
        ('[devices.u]\ntype = "t"\nkind = "local"', "no device type `t`; the file has no [types]"),
        (UNIT, "devices.u.kind: is missing; expected one of local, ssh, qemu"),
        (UNIT + 'kind = "shh"', "'shh' is not one of local, ssh, qemu; did you mean `ssh`?"),
        (UNIT + 'kind = "ssh"', "devices.u.ssh: is missing; expected a table with `host`"),
        (SSH + "[devices.u.qemu]", "devices.u.qemu: a unit is reached by `ssh` or `qemu`, not both"),
        (UNIT + 'kind = "local"\nssh = { host = "h" }', "kind: is 'local', but the unit has a table `ssh`"),
        (UNIT + "[devices.u.ssh]\nuser = 'pi'", "devices.u.ssh.host: is missing"),
        (UNIT + "[devices.u.ssh]\nhost = 'pi@h'", "devices.u.ssh.host: expected a bare host name or address"),
        (UNIT + "[devices.u.ssh]\nhost = '-oProxyCommand=x'", "host: expected a bare host name"),
        (SSH + "port = 70000", "devices.u.ssh.port: expected 1 to 65535, got 70000"),
        (SSH + "port = '22'", "devices.u.ssh.port: expected an integer, got '22'"),
        (SSH + "host_key = 'MD5:00:11'", "devices.u.ssh.host_key: expected"),
        (SSH + "host_key = 'ssh-ed25519 !!!'", "devices.u.ssh.host_key: expected"),
        (SSH + "hots = 'x'", "devices.u.ssh.hots: unknown key; did you mean `host`?"),
        (SSH + "[devices.u.ssh.jump]\nuser = 'x'", "devices.u.ssh.jump.host: is missing"),
        (UNIT + "[devices.u.qemu]\nmemory_bytes = '2 GHz'", "unknown unit `GHz`"),
        (UNIT + "[devices.u.qemu]\nmemory_bytes = '64 MiB'", "qemu.memory_bytes: expected 268435456 or"),
        (UNIT + "[devices.u.qemu]\nsmp = 0", "devices.u.qemu.smp: expected 1 or more, got 0"),
        (UNIT + "kind = 'local'\nhome = '~/x'", "devices.u.home: expected an absolute path on the device"),
        (UNIT + "kind = 'local'\ntags = ['a b']", "devices.u.tags: 'a b' is not a name"),
        (UNIT + "kind = 'local'\npinned_cpus = [-1]", "pinned_cpus: expected integers of 0 or more"),
        (UNIT + "kind = 'local'\npinned_cpus = 3", "devices.u.pinned_cpus: expected a list of integers"),
        (UNIT + "kind = 'local'\ntimeout_s = 0", "devices.u.timeout_s: expected 1 or more"),
        (UNIT + "kind = 'local'\ntimeout = 3", "devices.u.timeout: unknown key; did you mean `timeout_s`?"),
        ('[types.host]\nrequires_evidence = ["temperature"]\n[devices.u]\ntype = "host"\nkind = "local"',
         "types.host.requires_evidence: 'temperature' is not one of throttle_bits, freq, temp"),
        ('[types.host]\nrequires_evidence = ["freqs"]\n[devices.u]\ntype = "host"\nkind = "local"',
         "did you mean `freq`?"),
        ("[types.host]\ncores = 1.5\n" + UNIT.removeprefix(HOST) + "kind = 'local'",
         "types.host.cores: expected an integer"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_place_and_its_remedy(tmp_path, text, problem):
    (found,) = problems_of(tmp_path, text)
    assert problem in found


@pytest.mark.parametrize(
    "key", ["password", "ssh_password", "passphrase", "api_token", "SECRET", "private_key"]
)
def test_a_secret_is_refused_with_where_it_belongs(tmp_path, key):
    (found,) = problems_of(tmp_path, SSH + f"{key} = 'hunter2'")
    assert f"devices.u.ssh.{key}: secrets don't belong in this file; let ssh-agent" in found
    assert "hunter2" not in found


def test_all_problems_come_at_once(tmp_path):
    text = SSH + "port = 0\n[devices.v]\ntype = 'hst'\n[devices.w]\n[typo]\n"
    found = problems_of(tmp_path, text)
    assert len(found) == 6
    with pytest.raises(ConfigError, match="6 problems"):
        registries.load_registry(tmp_path / "devices.toml")


def test_jump_hosts_end_somewhere(tmp_path):
    text = SSH
    for depth in range(1, 4):
        text += f"[devices.u.ssh{'.jump' * depth}]\nhost = 'j'\n"
    assert registries.load_registry(write(tmp_path, text)).devices["u"].ssh.jump.jump.jump.jump is None
    text += f"[devices.u.ssh{'.jump' * 4}]\nhost = 'j'\n"
    (found,) = problems_of(tmp_path, text)
    assert found == f"devices.u.ssh{'.jump' * 4}: more than 3 jump hosts in a row"


KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIBZBGHvMYeqXq2oD7pWHxCn7z5KpGdXkn0lbSHmIqJPk"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"ssh-ed25519 {KEY}", True),
        (f"ssh-ed25519 {KEY} root@board", True),
        (f"ssh-rsa {KEY}", False),  # says one type, holds another
        (f"ssh-foo {KEY}", False),
        (KEY, False),
        ("SHA256:jE2MkSxfIwBNbkPrvBvUcP2VqfRhlTZQTtUUUlSxCD4", True),
        ("SHA256:short", False),
        ("", False),
    ],
)
def test_host_keys(text, expected):
    assert registries.is_host_key(text) is expected


def test_cores_are_numbered_from_0(tmp_path):
    text = UNIT + "kind = 'local'\npinned_cpus = "
    assert registries.load_registry(write(tmp_path, text + "[0, 3]")).devices["u"].pinned_cpus == (0, 3)
    for wrong in ("[true]", "['0']", "[1.0]"):
        assert "pinned_cpus: expected integers" in problems_of(tmp_path, text + wrong)[0]


# --- which file


def test_the_file_is_the_one_given_then_the_nearest_then_the_packaged(tmp_path):
    above, below = tmp_path / "lab", tmp_path / "lab" / "a" / "b"
    below.mkdir(parents=True)
    packaged = registries.find_devices_file(None, below)
    assert packaged.read_text(encoding="utf-8") == (ROOT / "devices.toml").read_text(encoding="utf-8")
    path = write(above, GOOD)
    assert registries.find_devices_file(None, below) == path
    other = tmp_path / "other.toml"
    other.touch()
    assert registries.find_devices_file(str(other), below) == other
    with pytest.raises(ConfigError, match=r"nope\.toml: no such file\. Check --devices"):
        registries.find_devices_file(tmp_path / "nope.toml", below)


# --- which units


@pytest.fixture
def registry(tmp_path):
    return registries.load_registry(write(tmp_path, GOOD))


def names_of(devices):
    return [device.name for device in devices]


def test_a_unit_a_type_or_a_tag(registry):
    assert names_of(registries.select(registry, "rpi4-emulated")) == ["rpi4-emulated"]
    assert names_of(registries.select(registry, "host")) == ["local"]
    assert names_of(registries.select(registry, "tag:emulated")) == ["rpi4-emulated"]
    assert names_of(registries.select(registry, "tag:cooled")) == ["rpi4-01"]


def test_a_type_is_emulated_until_a_board_is_listed(registry, tmp_path):
    assert names_of(registries.select(registry, "rpi4")) == ["rpi4-01"]
    emulated = registries.load_registry(write(tmp_path, GOOD[: GOOD.index("[devices.rpi4-01]")]))
    assert names_of(registries.select(emulated, "rpi4")) == ["rpi4-emulated", "rpi4-small"]


def test_a_units_name_wins_over_its_types(tmp_path):
    text = "[types.local]\n"
    for name in ("local", "b"):
        text += f'[devices.{name}]\ntype = "local"\nkind = "local"\n'
    registry = registries.load_registry(write(tmp_path, text))
    assert names_of(registries.select(registry, "local")) == ["local"]


def test_an_unknown_name_gets_the_names_that_exist(registry):
    with pytest.raises(UnknownDevice) as caught:
        registries.select(registry, "rpi4-1")
    text = str(caught.value)
    assert "no device, type or tag `rpi4-1`" in text
    for name in registries.names(registry):
        assert name in text
    assert "Did you mean `rpi4-01`?" in text
    for name in ("tag:none", "", "tag:"):
        with pytest.raises(UnknownDevice):
            registries.select(registry, name)


def test_a_type_without_units_says_so(tmp_path):
    text = '[types.rpi5]\n[types.h]\n[devices.local]\ntype = "h"\nkind = "local"\n'
    with pytest.raises(UnknownDevice, match="no unit has the type `rpi5`"):
        registries.select(registries.load_registry(write(tmp_path, text)), "rpi5")
