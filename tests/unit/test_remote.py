"""The client against a real agent on this host: its ops, its children, and every way one can end."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bench import eventually

from harness.agent import wire
from harness.connect.local import LocalConnection
from harness.errors import (
    AgentError,
    ConfigError,
    DeadlineExceeded,
    DeviceBusy,
    DeviceFull,
    FencedError,
    HarnessError,
    ModelRejected,
    RuntimeUnavailable,
    Unsupported,
    WireError,
)
from harness.model import Device, DeviceType
from harness.remote import AgentClient, Child, build_archive, measure_args, parse_block
from harness.remote.failures import to_error

TIMEOUT_S = 240.0
ENV = "e" * 64
NUMPY_ENV = "f" * 64
ADAPTER = """
import os, signal, sys, time

NAME = "fake"

class ModelError(Exception):
    pass

class UnsupportedError(Exception):
    pass

def version():
    return "1.2.3"

def load(model_path, threads, options):
    print("noise on stdout")
    mode = options.get("mode", "")
    if mode == "reject":
        raise ModelError("unresolved op NoSuchOp" + chr(10) + "and more")
    if mode == "signal":
        sys.stderr.write("native code gave up" + chr(10))
        sys.stderr.flush()
        os.kill(os.getpid(), options["signal"])
    if mode == "exit":
        os._exit(7)
    if mode == "garbage":
        for fd in range(3, 10):  # one of them is the wire
            try:
                os.write(fd, b"rubbish" + bytes([10]))
            except OSError:
                pass
        time.sleep(3600)
    if mode == "hang":
        time.sleep(3600)
    return Session(mode, options)

class Session:
    outputs = [{"name": "y", "shape": [None, 2], "dtype": "float32"}]
    inputs = [{"name": "x", "shape": [None, 2], "dtype": "float32"}]

    def __init__(self, mode, options):
        self.raw = mode != "numpy"
        self.mode, self.delay, self.last = mode, options.get("delay_s", 0), None

    def prepare(self, feeds):
        def invoke():
            if self.mode == "fails":
                raise ValueError("bad node")
            if self.delay:
                time.sleep(self.delay)
            self.last = feeds["x"]
        return invoke

    def read_outputs(self):
        x = self.last
        return {"y": x * 2 if self.mode == "numpy" else x}
"""


def a_device(home: Path) -> Device:
    return Device("here", DeviceType("host"), "local", home=str(home))


def put_env(home: Path, sha256: str, *, numpy: bool = False) -> None:
    folder = home / "envs" / sha256
    folder.mkdir(parents=True)
    (folder / "adapter.py").write_text(ADAPTER)
    if numpy:
        (folder / "site").symlink_to(Path(np.__file__).parents[1])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    put_env(folder, ENV)
    put_env(folder, NUMPY_ENV, numpy=True)
    (folder / "model").write_bytes(b"weights")
    np.savez(folder / "inputs.npz", x=np.arange(20, dtype=np.float32).reshape(10, 2), labels=np.arange(10))
    return folder


@pytest.fixture(scope="module")
def connection(home: Path) -> Iterator[LocalConnection]:
    opened = LocalConnection(a_device(home))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(connection: LocalConnection) -> Iterator[AgentClient]:
    with AgentClient.start(connection, python=sys.executable, timeout_s=TIMEOUT_S) as started:
        yield started


@pytest.fixture
def child(client: AgentClient) -> Iterator[Child]:
    spawned = client.spawn("it", env=ENV, adapter="env")
    yield spawned
    spawned.close()


def loaded(child: Child, home: Path, **options: Any) -> Child:
    child.load(str(home / "model"), options=options)
    child.set_inputs(npz_path=str(home / "inputs.npz"))
    return child


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


# the archive


def test_archive_is_the_same_every_time_and_stands_alone() -> None:
    (data, sha256), again = build_archive(), build_archive()
    assert again == (data, sha256)
    assert hashlib.sha256(data).hexdigest() == sha256
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    assert names[0] == "__main__.py"
    assert {"hil_agent/__main__.py", "hil_agent/adapters/command.py"} <= set(names)
    assert all(name.endswith(".py") for name in names)


def test_archive_is_pushed_once_and_a_damaged_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushes: list[str] = []
    push = LocalConnection.push
    monkeypatch.setattr(
        LocalConnection, "push", lambda self, s, t, **kw: (pushes.append(t), push(self, s, t, **kw))[1]
    )
    connection = LocalConnection(a_device(tmp_path))
    for _ in range(2):
        AgentClient.start(connection, python=sys.executable, timeout_s=TIMEOUT_S).close()
    assert len(pushes) == 1
    Path(pushes[0]).write_bytes(b"half an archive")
    AgentClient.start(connection, python=sys.executable, timeout_s=TIMEOUT_S).close()
    assert len(pushes) == 2
    connection.close()


def test_a_missing_python_is_named(connection: LocalConnection) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"python9.*Python 3\.9"):
        AgentClient.start(connection, python="python9", timeout_s=TIMEOUT_S)


def test_something_else_that_answers_is_refused(tmp_path: Path) -> None:
    liar = tmp_path / "liar"
    header = {"v": 1, "id": 1, "type": "result", "op": "hello", "payload_bytes": 0, "crc32": 0}
    answer = json.dumps({**header, "args": {"protocol": 1, "agent_sha256": "0" * 64}})
    liar.write_text(f"#!/bin/sh\nread line\necho '{answer}'\nread line\n")
    liar.chmod(0o755)
    connection = LocalConnection(a_device(tmp_path / "home"))
    with pytest.raises(WireError, match="hash 0000"):
        AgentClient.start(connection, python=str(liar), timeout_s=TIMEOUT_S)
    connection.close()


def test_a_banner_between_frames_is_refused(tmp_path: Path) -> None:
    chatty = tmp_path / "chatty"
    chatty.write_text("#!/bin/sh\necho 'Welcome to this device!'\nread line\n")
    chatty.chmod(0o755)
    connection = LocalConnection(a_device(tmp_path / "home"))
    with pytest.raises(WireError, match="Welcome"):
        AgentClient.start(connection, python=str(chatty), timeout_s=TIMEOUT_S)
    connection.close()


# ops of the parent


def test_hello(client: AgentClient) -> None:
    assert client.hello["protocol"] == wire.PROTOCOL
    assert client.hello["agent_sha256"] == build_archive()[1]
    assert client.hello["python"].startswith("3.")
    assert client.hello["facts"]["ram_bytes"] > 0
    assert client.request("conditions").args["monotonic_ns"] > 0


def test_store_through_the_wire(client: AgentClient, home: Path) -> None:
    sha256 = hashlib.sha256(b"weights").hexdigest()
    (home / "incoming" / "up").write_bytes(b"weights")
    commit = {"incoming": "up", "sha256": sha256, "size_bytes": 7}
    assert client.request("store_commit", commit).args == {"already": False}
    assert client.request("store_commit", commit).args == {"already": True}
    client.request("store_activate", {"name": "m", "sha256": sha256, "suffix": ".onnx"})
    assert client.request("store_status").args["active"] == {"m": sha256}
    path = client.request("store_path", {"sha256": sha256}).args["path"]
    assert Path(path).read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("op", "args", "error", "message"),
    [
        ("no_such_op", {}, ConfigError, "unknown op `no_such_op`; valid: bye, ch"),
        ("store_path", {"sha256": "0" * 64}, AgentError, "no such object"),
        ("store_path", {"sha": "0" * 64}, ConfigError, "`sha256` is missing"),
        (
            "store_commit",
            {"incoming": "../x", "sha256": "0" * 64, "size_bytes": 1},
            ConfigError,
            "plain file name",
        ),
        ("hello", {"loudly": True}, ConfigError, "`loudly` is unknown"),
        ("sample", {"child": "nobody"}, AgentError, "no child `nobody` lives; there are: none"),
        ("spawn", {"child": "c", "env": "0" * 64, "adapter": "env"}, AgentError, "no such environment"),
        (
            "spawn",
            {"child": "c", "adapter": "env", "cpus": [4000]},
            Unsupported,
            r"cpus \[4000\] are not there",
        ),
    ],
)
def test_failed_ops_are_told_by_kind(
    client: AgentClient, op: str, args: dict[str, Any], error: type[HarnessError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        client.request(op, args)
    assert caught.value.where == "here"


# children


def test_a_child_measures(client: AgentClient, home: Path, child: Child) -> None:
    assert child.runtime_version == "1.2.3"
    model = child.load(str(home / "model"), threads=1)
    assert model.signature.inputs[0].shape == (None, 2)
    assert model.load_time_ns > 0
    fed = child.set_inputs(npz_path=str(home / "inputs.npz"))
    assert (fed.n_samples, len(fed.sha256)) == (10, 64)
    assert child.first() > 0
    block = child.measure(iterations=50, warmup_max=20)
    assert block.latency_ns.shape == block.start_ns.shape == (50,)
    assert block.latency_ns.dtype == np.int64
    assert (block.latency_ns >= 0).all()
    assert (np.diff(block.start_ns) > 0).all()
    assert block.clock == "CLOCK_MONOTONIC"
    assert 0 < block.warmup_iterations <= 20


def test_outputs_come_back_stacked(home: Path, child: Child) -> None:
    loaded(child, home)
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    assert np.array_equal(child.infer(0, 10)["y"], x)
    assert np.array_equal(child.infer(7, 2)["y"], x[7:9])
    child.set_inputs(npz_path=str(home / "inputs.npz"), batch_size=4)
    assert np.array_equal(child.infer(1, 9)["y"], x[1:])
    child.set_inputs(arrays={"x": x[::-1]}, indices=[0, 2])
    assert np.array_equal(child.infer(0, 2)["y"], x[[9, 7]])


def test_numpy_comes_from_the_environment(client: AgentClient, home: Path) -> None:
    child = loaded(client.spawn("np", env=NUMPY_ENV, adapter="env"), home, mode="numpy")
    assert np.array_equal(child.infer(3, 1)["y"], np.array([[12, 14]], np.float32))
    child.close()


def test_what_fits_no_message_comes_in_parts(
    home: Path, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(child, home)
    asked = []
    submit = child.submit

    def halved(op: str, args: dict[str, Any], *rest: Any, **more: Any) -> Any:
        asked.append(args)
        return submit(op, {**args, "count": min(4, args["count"])}, *rest, **more)

    monkeypatch.setattr(child, "submit", halved)
    assert child.infer(0, 10)["y"].shape == (10, 2)
    assert [a["start"] for a in asked] == [0, 4, 8]


def test_the_parent_reads_a_childs_memory(child: Child) -> None:
    sample = child.sample()
    assert sample.vm_hwm_bytes >= sample.vm_rss_bytes > 1 << 20
    assert 0 < sample.pss_bytes <= sample.rss_bytes
    assert sample.threads == 1


def test_environment_is_small_and_the_same_everywhere(
    client: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    child = client.spawn("env", env=ENV, adapter="env", env_vars={"MY_FLAG": "1"}, threads=3)
    environ = Path(f"/proc/{child.pid}/environ").read_bytes().decode().split("\0")
    assert {"MY_FLAG=1", "OMP_NUM_THREADS=3", "OPENBLAS_NUM_THREADS=3"} <= set(environ)
    assert not any(line.startswith(("PYTHONPATH", "USER=")) for line in environ)
    child.close()


def test_a_child_is_pinned(client: AgentClient) -> None:
    cpu = min(os.sched_getaffinity(0))
    child = client.spawn("pinned", env=ENV, adapter="env", cpus=[cpu])
    assert os.sched_getaffinity(child.pid) == {cpu}
    child.close()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c, h: c.first(), ConfigError, "no model is loaded"),
        (lambda c, h: c.load(str(h / "none")), AgentError, "can't be read"),
        (lambda c, h: loaded(c, h).load(str(h / "model")), ConfigError, "is loaded already"),
        (
            lambda c, h: c.load(str(h / "model"), options={"shapes": {"z": [1]}}),
            ConfigError,
            "`z`; the inputs are: x",
        ),
        (lambda c, h: (loaded(c, h), c.first(), c.first()), ConfigError, "called already"),
        (lambda c, h: loaded(c, h).infer(8, 5), ConfigError, "samples 8 to 12 asked for, there are 10"),
        (
            lambda c, h: loaded(c, h).set_inputs(arrays={"x": np.zeros((1, 3), np.float32)}),
            ConfigError,
            "1x3, expected nx2",
        ),
        (lambda c, h: loaded(c, h).set_inputs(), ConfigError, "exactly one"),
        (lambda c, h: loaded(c, h).set_inputs(npz_path="/none.npz"), AgentError, "no such file"),
        (lambda c, h: loaded(c, h).measure(iterations=0), ConfigError, "`iterations` is 0"),
        (
            lambda c, h: c.load(str(h / "model"), options={"mode": "reject"}),
            ModelRejected,
            r"unresolved op NoSuchOp\. ",
        ),
        (lambda c, h: loaded(c, h, mode="fails").first(), ModelRejected, "bad node"),
        (lambda c, h: loaded(c, h, mode="fails").measure(iterations=5), ModelRejected, "bad node"),
        (lambda c, h: loaded(c, h, mode="fails").infer(0, 1), ModelRejected, "bad node"),
    ],
)
def test_failures_inside_a_child(
    child: Child, home: Path, call: Any, error: type[HarnessError], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(child, home)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"mode": "signal", "signal": 11},
            ModelRejected,
            "crashed with SIGSEGV during `load`.*native code gave up",
        ),
        ({"mode": "signal", "signal": 6}, ModelRejected, "SIGABRT"),
        ({"mode": "signal", "signal": 4}, RuntimeUnavailable, "signal 4"),
        ({"mode": "signal", "signal": 9}, AgentError, "signal 9"),
        ({"mode": "exit"}, AgentError, "exited with 7 during `load`"),
        ({"mode": "garbage"}, AgentError, "no frame"),
    ],
)
def test_a_child_that_dies_is_told_by_how(
    client: AgentClient,
    child: Child,
    home: Path,
    options: dict[str, Any],
    error: type[HarnessError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        child.load(str(home / "model"), options=options)
    assert gone(child.pid)
    with pytest.raises(AgentError, match="no child `it`"):
        child.sample()
    again = loaded(client.spawn("next", env=ENV, adapter="env"), home)  # the agent itself goes on
    assert again.infer(0, 1)["y"].shape == (1, 2)
    again.close()


def test_a_child_that_dies_between_requests_is_told_by_how_at_the_next(
    client: AgentClient, child: Child
) -> None:
    os.kill(child.pid, signal.SIGKILL)
    assert eventually(lambda: gone(child.pid))

    def refusal() -> str:
        with pytest.raises(HarnessError) as refused:
            child.sample()
        return str(refused.value)

    # until the agent has heard of it, the memory of a process that is gone can't be read
    assert eventually(lambda: "died of signal 9 (SIGKILL)" in refusal())
    assert "no child `it` lives" in refusal()
    client.spawn(child.name, env=ENV, adapter="env").close()


def test_a_child_past_its_deadline_is_ended(child: Child, home: Path) -> None:
    with pytest.raises(DeadlineExceeded, match=r"`load` took longer than 0\.3 s; the child was ended"):
        child.load(str(home / "model"), options={"mode": "hang"}, timeout_s=0.3)
    assert gone(child.pid)


def test_two_children_work_at_once(client: AgentClient, home: Path) -> None:
    children = [client.spawn(name, env=ENV, adapter="env") for name in ("a", "b")]
    for each in children:
        loaded(each, home, delay_s=0.02)
    pending = [each.submit("measure", measure_args(10, 0)) for each in children]
    first, second = (parse_block(p.wait()) for p in pending)
    assert first.start_ns[0] < second.start_ns[-1]
    assert second.start_ns[0] < first.start_ns[-1]  # they overlapped
    for each in children:
        each.close()


def test_a_busy_child_says_so_and_can_be_reaped(client: AgentClient, home: Path, child: Child) -> None:
    loaded(child, home, delay_s=0.2)
    pending = child.submit("measure", measure_args(50, 0))
    with pytest.raises(ConfigError, match="busy with `measure`"):
        child.infer(0, 1)
    assert child.sample().vm_hwm_bytes > 0  # the parent answers meanwhile
    child.close()
    with pytest.raises(AgentError, match="was reaped"):
        pending.wait()


def test_names_of_children_are_unique(client: AgentClient, child: Child) -> None:
    with pytest.raises(ConfigError, match="`it` lives already"):
        client.spawn("it", env=ENV, adapter="env")
    assert child.sample().fds > 0


@pytest.mark.parametrize(
    ("adapter", "error", "message"),
    [
        ("onnxruntime", RuntimeUnavailable, "No module named 'onnxruntime'"),
        ("onnxruntim", ConfigError, "unknown adapter `onnxruntim`; valid: onnxruntime, litert"),
    ],
)
def test_a_runtime_that_is_not_there(
    client: AgentClient, adapter: str, error: type[HarnessError], message: str
) -> None:
    with pytest.raises(error, match=message):
        client.spawn("none", env=ENV, adapter=adapter)
    client.spawn("none", env=ENV, adapter="env").close()  # the name is free again


def test_requests_from_several_threads(client: AgentClient) -> None:
    answers: list[int] = []

    def ask() -> None:
        for _ in range(20):
            answers.append(client.request("conditions").args["monotonic_ns"])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert len(set(answers)) == 80


# commands

BENCHMARK = """
print("count=1 first=9 curr=9 min=9 max=9 avg=9 std=0")
print("count=50 first=9 curr=5 min=4 max=8 avg=5.5 std=1 p5=4 median=5 p95=8")
print("Inference timings in us: Init: 100, First inference: 9, Warmup (avg): 9, Inference (avg): 5.5")
"""
ECHO = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    answer = {"ok": True}
    spec = [{"name": "x", "shape": [None, 2], "dtype": "float32"}]
    if request["op"] == "load":
        answer.update(inputs=spec, outputs=spec)
    elif request["op"] == "feed":
        entries, data = request["arrays"], open(request["path"], "rb").read()
    elif request["op"] == "run":
        answer["latency_ns"] = [4000] * request["count"]
    elif request["op"] == "read":
        open(request["path"], "wb").write(data)
        answer["arrays"] = entries
    print(json.dumps(answer), flush=True)
"""


def command_child(client: AgentClient, home: Path, protocol: str, text: str) -> Child:
    tool = home / f"{protocol}.py"
    tool.write_text(text)
    child = client.spawn("cmd", env=None, adapter="command")
    options = {"argv": [sys.executable, str(tool), "{model}"], "protocol": protocol}
    child.load(str(home / "model"), options=options)
    return child


def test_a_command_with_a_summary_gives_no_samples(client: AgentClient, home: Path) -> None:
    child = command_child(client, home, "benchmark_model", BENCHMARK)
    assert child.runtime_version.startswith("sha256:")
    assert child.first() == 9000
    block = child.measure(iterations=50, warmup_max=1)
    assert block.latency_ns.size == block.start_ns.size == 0
    assert block.warmup_flat is None
    assert block.summary["latency_p50_ns"] == 5000
    assert block.summary["count"] == 50
    with pytest.raises(Unsupported, match="makes its own inputs"):
        child.set_inputs(npz_path=str(home / "inputs.npz"))
    with pytest.raises(Unsupported, match="gives no outputs"):
        child.infer(0, 1)
    child.close()


def test_a_command_that_times_itself(client: AgentClient, home: Path) -> None:
    child = command_child(client, home, "json-lines", ECHO)
    child.set_inputs(npz_path=str(home / "inputs.npz"), batch_size=3)
    assert child.first() == 4000
    block = child.measure(iterations=100, warmup_max=8)
    assert block.latency_ns.tolist() == [4000] * 100
    assert block.start_ns.size == 0
    assert np.array_equal(child.infer(1, 9)["x"], np.arange(2, 20, dtype=np.float32).reshape(9, 2))
    measured = client.request("sample", {"child": "cmd"}).args["pid"]
    assert measured != child.pid  # the command's memory, not the agent's
    os.kill(child.pid, signal.SIGKILL)
    assert eventually(lambda: gone(measured))
    child.close()


# how an agent ends


def started(connection: LocalConnection, home: Path) -> tuple[AgentClient, list[Child]]:
    client = AgentClient.start(connection, python=sys.executable, timeout_s=TIMEOUT_S)
    children = [client.spawn(name, env=ENV, adapter="env") for name in ("a", "b")]
    return client, [loaded(each, home, delay_s=0.05) for each in children]


@pytest.mark.parametrize("end", ["close", "kill", "eof", "term"])
def test_nothing_outlives_the_agent(connection: LocalConnection, home: Path, end: str) -> None:
    client, children = started(connection, home)
    pid = client.hello["pid"]
    pending = [child.submit("measure", measure_args(1000, 0)) for child in children]
    if end == "kill":
        os.kill(pid, signal.SIGKILL)
    elif end == "term":
        os.kill(pid, signal.SIGTERM)
    elif end == "eof":
        client._process.close_stdin()  # type: ignore[attr-defined]
    else:
        client.close()
    assert eventually(lambda: all(gone(p) for p in (pid, *(child.pid for child in children))))
    for waiting in pending:
        with pytest.raises(HarnessError):
            waiting.wait()
    with pytest.raises(HarnessError):
        client.request("hello")
    client.close()


def test_a_bad_frame_ends_the_agent_with_3(connection: LocalConnection) -> None:
    client = AgentClient.start(connection, python=sys.executable, timeout_s=TIMEOUT_S)
    client._process.write(b"not a frame\n", timeout_s=TIMEOUT_S)
    assert eventually(lambda: client._process.poll() == 3)
    with pytest.raises(WireError, match=r"refused a frame.*not JSON"):
        client.request("hello")
    client.close()


def test_a_silent_agent_runs_into_the_deadline(connection: LocalConnection) -> None:
    client = AgentClient.start(connection, python=sys.executable, timeout_s=TIMEOUT_S)
    os.kill(client.hello["pid"], signal.SIGSTOP)
    with pytest.raises(DeadlineExceeded, match=r"no answer to `facts` for 0\.2 s"):
        client.request("facts", timeout_s=0.2)
    os.kill(client.hello["pid"], signal.SIGCONT)
    assert client.request("hello").args["protocol"] == 1  # the late answer confuses nobody
    client.close()
    client.close()


# what failures mean


def test_a_soak_that_another_collects() -> None:
    busy = to_error({"kind": "busy", "message": "desk collects it", "details": {}}, "soak_claim", "pi")
    assert isinstance(busy, DeviceBusy)
    assert str(busy) == "pi: desk collects it. Wait for that to end, or take it over."
    fenced = to_error({"kind": "fenced", "message": "laptop collects it now"}, "soak_read", "pi")
    assert isinstance(fenced, FencedError)
    assert "--take-over" in str(fenced)


def death(**details: Any) -> HarnessError:
    base = {"op": "load", "signal": None, "oom": False}
    return to_error(
        {"kind": "child_died", "message": "it died", "details": {**base, **details}}, "load", "pi"
    )


@pytest.mark.parametrize(
    ("details", "error", "message"),
    [
        ({"signal": 9, "oom": True, "op": "first"}, ModelRejected, "out of memory: it died"),
        ({"signal": 9, "oom": True, "op": "start"}, RuntimeUnavailable, "it died"),
        ({"signal": 9}, AgentError, "it died"),
        ({"signal": 8, "op": "measure"}, ModelRejected, "SIGFPE"),
        ({"signal": 11, "op": "start"}, RuntimeUnavailable, "it died"),
        ({"signal": 11, "op": ""}, AgentError, "it died"),
        ({"signal": 7}, AgentError, "it died"),
    ],
)
def test_deaths(details: dict[str, Any], error: type[HarnessError], message: str) -> None:
    found = death(**details)
    assert type(found) is error
    assert message in str(found)
    assert str(found).startswith("pi: ")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("bad_request", ConfigError),
        ("model_rejected", ModelRejected),
        ("runtime_unavailable", RuntimeUnavailable),
        ("no_such_child", AgentError),
        ("deadline", DeadlineExceeded),
        ("no_space", DeviceFull),
        ("not_found", AgentError),
        ("checksum", WireError),
        ("unsupported", Unsupported),
        ("internal", AgentError),
        ("surprise", WireError),
    ],
)
def test_kinds(kind: str, error: type[HarnessError]) -> None:
    assert type(to_error({"kind": kind, "message": "why"}, "op", "pi")) is error
