"""How a duet ends when something goes wrong in it, with real processes on this host."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bench import eventually
from support.turns import agent_on, calls_of, loaded

from harness.connect.local import LocalConnection
from harness.errors import (
    AgentError,
    ConfigError,
    DeadlineExceeded,
    HarnessError,
    ModelRejected,
    Unsupported,
    WireError,
)
from harness.model import Device, DeviceType
from harness.remote import AgentClient, Child, Pending, Reply
from harness.remote.duet import parse_duet

Ready = tuple[AgentClient, str]
MS = 1_000_000
SHORT = {"pairs": 4, "seed": 1, "block_ns": MS, "block_calls": 2, "warmup_max": 4, "settle_ns": 0}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalConnection]:
    opened = LocalConnection(
        Device("here", DeviceType("host"), "local", home=str(tmp_path_factory.mktemp("home")))
    )
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def ready(connection: LocalConnection) -> Iterator[Ready]:
    with agent_on(connection, python=sys.executable) as started:
        yield started


@pytest.fixture
def spawn(ready: Ready) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def spawned(name: str, **options: Any) -> Child:
        children.append(loaded(*ready[:1], name, ready[1], **{"call_s": 0.001, **options}))
        return children[-1]

    yield spawned
    for child in children:
        child.close()


def begun(client: AgentClient, *children: Child, **more: Any) -> Pending:
    """Start an endless duet without waiting for it."""
    args = {"children": [c.name for c in children], **SHORT, "pairs": 100_000, "deadline_s": 600.0, **more}
    return client.submit("duet", args, timeout_s=700.0)


def is_working(child: Child) -> bool:
    """Return whether the child has left its warm-up and takes turns, by how often it was scheduled."""
    status = Path(f"/proc/{child.pid}/status").read_text()
    return int(status.partition("voluntary_ctxt_switches:")[2].split()[0]) > 60


@pytest.mark.parametrize("arm", [0, 1])
@pytest.mark.parametrize(("at", "what"), [(1, "warm-up"), (10, "a block")])
def test_a_child_that_dies_in_its_turn(
    ready: Ready, spawn: Callable[..., Child], arm: int, at: int, what: str
) -> None:
    children = [
        spawn("a", **({"die_at": at} if arm == 0 else {})),
        spawn("b", **({"die_at": at} if arm else {})),
    ]
    with pytest.raises(ModelRejected, match="crashed with SIGSEGV during `duet`"):
        ready[0].duet(children, **SHORT)
    assert calls_of(children[1 - arm]) > 0  # the other one is as it was, and idle
    with pytest.raises(AgentError, match=f"no child `{'ab'[arm]}` lives"):
        children[arm].sample()


@pytest.mark.parametrize("arm", [0, 1])
@pytest.mark.parametrize("at", [1, 10])
def test_a_model_that_fails_in_its_turn_is_named(
    ready: Ready, spawn: Callable[..., Child], arm: int, at: int
) -> None:
    children = [spawn(name, **({"fail_at": at} if "ab"[arm] == name else {})) for name in "ab"]
    with pytest.raises(ModelRejected, match=f"child `{'ab'[arm]}`: bad node"):
        ready[0].duet(children, **SHORT)
    for child in children:
        assert calls_of(child) > 0


@pytest.mark.parametrize("at", [1, 10])
def test_a_child_past_the_deadline_is_ended_the_other_goes_on(
    ready: Ready, spawn: Callable[..., Child], at: int
) -> None:
    for timeout_s in (1.0, 16.0, 256.0):  # on a busy host `b` may not have come to its turn by then
        children = [spawn(f"a{timeout_s:g}"), spawn(f"b{timeout_s:g}", hang_at=at)]
        with pytest.raises(DeadlineExceeded) as caught:
            ready[0].duet(children, **SHORT, timeout_s=timeout_s)
        if "child `b" in str(caught.value):
            break
    said = f"child `b{timeout_s:g}`: `duet` took longer than {timeout_s:g} s; the child was ended"
    assert said in str(caught.value)
    assert calls_of(children[0]) > 0


def test_a_child_killed_from_outside(ready: Ready, spawn: Callable[..., Child]) -> None:
    a, b = spawn("a"), spawn("b")
    duet = begun(ready[0], a, b)
    assert eventually(lambda: is_working(b))
    os.kill(a.pid, signal.SIGKILL)
    with pytest.raises(AgentError, match=r"child `a` died of signal 9 .*during `duet`"):
        duet.wait()
    assert calls_of(b) > 0


@pytest.mark.parametrize("arm", [0, 1])
def test_a_child_that_is_reaped(ready: Ready, spawn: Callable[..., Child], arm: int) -> None:
    children = [spawn("a"), spawn("b")]
    duet = begun(ready[0], *children)
    assert eventually(lambda: is_working(children[1]))
    children[arm].close()
    with pytest.raises(AgentError, match=f"child `{'ab'[arm]}` was reaped"):
        duet.wait()
    assert calls_of(children[1 - arm]) > 0


@pytest.mark.parametrize("end", ["close", "eof", "term", "kill"])
def test_nothing_outlives_an_agent_that_ends_in_a_duet(connection: LocalConnection, end: str) -> None:
    with agent_on(connection, python=sys.executable) as (client, sha256):
        children = [loaded(client, name, sha256, call_s=0.001) for name in "ab"]
        duet = begun(client, *children)
        assert eventually(lambda: is_working(children[1]))
        pid = client.hello["pid"]
        if end == "close":
            client.close()
        elif end == "eof":
            client._process.close_stdin()  # type: ignore[attr-defined]
        else:
            os.kill(pid, signal.SIGTERM if end == "term" else signal.SIGKILL)
        with pytest.raises(HarnessError):
            duet.wait()
        assert eventually(lambda: not any(Path(f"/proc/{p}/cwd").exists() for p in (pid, children[0].pid)))
        assert eventually(lambda: not Path(f"/proc/{children[1].pid}/cwd").exists())


def test_both_are_busy_meanwhile_and_free_afterwards(ready: Ready, spawn: Callable[..., Child]) -> None:
    a, b, c = spawn("a"), spawn("b"), spawn("c")
    duet = begun(ready[0], a, b, max_duration_ns=400 * MS)
    for child in (a, b):
        with pytest.raises(ConfigError, match="is busy with `duet`"):
            child.infer(0, 1)
    with pytest.raises(ConfigError, match="`b` is busy with `duet`"):
        ready[0].duet([c, b], **SHORT)
    assert a.sample().vm_rss_bytes > 0
    assert parse_duet(duet.wait()).pairs_got >= 2
    assert calls_of(a) > 4
    assert ready[0].duet([b, a], **SHORT).arms[0].child == "b"  # another one, the other way round


def test_children_that_cannot_take_turns(ready: Ready, spawn: Callable[..., Child]) -> None:
    a = spawn("a")
    with pytest.raises(ConfigError, match="`a` can't take turns with itself"):
        ready[0].duet([a, a], **SHORT)
    bare = ready[0].spawn("bare", env=ready[1], adapter="env")
    for children in ([a, bare], [bare, a]):
        with pytest.raises(ConfigError, match="child `bare`: no model is loaded"):
            ready[0].duet(children, **SHORT)
    bare.close()
    with pytest.raises(AgentError, match="no child `bare` lives"):
        ready[0].duet([a, bare], **SHORT)
    assert calls_of(a) > 0


COMMANDS = {
    "json-lines": (
        "times its calls itself",
        """
import json, sys
for line in sys.stdin:
    spec = [{"name": "x", "shape": [None, 1], "dtype": "int64"}]
    print(json.dumps({"ok": True, "inputs": spec, "outputs": spec}), flush=True)
""",
    ),
    "benchmark_model": (
        "only prints a summary",
        'print("Inference timings in us: Init: 9, First inference: 9, Warmup (avg): 9, Inference (avg): 5")',
    ),
}


@pytest.mark.parametrize("protocol", COMMANDS)
def test_a_command_takes_no_turns(
    ready: Ready, spawn: Callable[..., Child], tmp_path: Path, protocol: str
) -> None:
    why, text = COMMANDS[protocol]
    (tmp_path / "tool.py").write_text(text)
    command = ready[0].spawn("command", env=None, adapter="command")
    command.load(
        "/dev/null", options={"argv": [sys.executable, str(tmp_path / "tool.py")], "protocol": protocol}
    )
    a = spawn("a")
    with pytest.raises(Unsupported, match=f"child `command`: `duet`: this command {why}"):
        ready[0].duet([a, command], **SHORT)
    with pytest.raises(Unsupported, match=f"`paced`: this command {why}"):
        command.paced([0, 1])
    with pytest.raises(Unsupported, match=f"queries of several calls: this command {why}"):
        command.measure(iterations=2, calls_per_query=2)
    assert calls_of(a) > 0
    command.close()


def test_counts_that_disagree_are_a_broken_wire(ready: Ready, spawn: Callable[..., Child]) -> None:
    reply = begun(ready[0], spawn("a"), spawn("b"), pairs=3).wait()
    assert parse_duet(reply).pairs_got == 3
    with pytest.raises(WireError, match="duet of 2 pairs came with arrays of other lengths"):
        parse_duet(Reply({**reply.args, "pairs_got": 2}, reply.payload))
    with pytest.raises(WireError, match="arrived changed"):
        parse_duet(Reply(reply.args, reply.payload[:-1] + b"\x07"))


def test_a_bad_schedule_is_refused(spawn: Callable[..., Child]) -> None:
    child = spawn("a")
    with pytest.raises(ConfigError, match="must ascend"):
        child.paced(np.array([5, 1]))
    assert calls_of(child) > 0
