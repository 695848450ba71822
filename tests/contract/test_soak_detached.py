"""A soak's runner over every connection: nothing that ends an agent, a command or a connection ends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.bench import Bench, eventually
from support.soaking import command_spec

from harness.errors import FencedError, HarnessError
from harness.remote import AgentClient
from harness.remote.soak import SoakClient, SoakStatus

TIMEOUT_S = 240.0  # only ends what hangs

# what the connection has no part in, a board needn't show again: its processes start slowly
ON_HOST = pytest.mark.parametrize("bench", ["local", "ssh"], indirect=True, scope="module")


@dataclass
class Soaking:
    """A soak that runs on the device of `bench`, and how to ask about it by a fresh connection."""

    bench: Bench
    soak_id: str

    def agent(self) -> AgentClient:
        return AgentClient.start(self.bench.connection, timeout_s=TIMEOUT_S)

    def status(self) -> SoakStatus:
        with self.agent() as agent:
            return SoakClient(agent).status(self.soak_id)

    def goes_on(self, pid: int | None) -> bool:
        """Return whether the same runner writes more than it has now."""
        with self.agent() as agent:
            client = SoakClient(agent)
            before = client.status(self.soak_id)
            assert (before.state, before.pid) == ("running", pid)
            return eventually(lambda: client.status(self.soak_id).seq > before.seq + 2, TIMEOUT_S)


@pytest.fixture
def soaking(bench: Bench, folder: str, tmp_path: Path) -> Iterator[Soaking]:
    spec = command_spec(bench.connection, folder, tmp_path, reboot=False)
    made = Soaking(bench, spec["id"])
    with made.agent() as agent:
        SoakClient(agent).start(spec)
    yield made
    with made.agent() as agent:
        client = SoakClient(agent)
        if any(status.id == made.soak_id for status in client.list()):
            token = client.claim(made.soak_id, "cleanup", take_over=True)
            client.stop(made.soak_id, token, "cleanup")
            client.remove(made.soak_id, token)


@ON_HOST
def test_it_outlives_the_agent_that_started_it(soaking: Soaking) -> None:
    status = soaking.status()  # the agent that started it has said goodbye
    assert soaking.goes_on(status.pid)


@ON_HOST
def test_it_outlives_an_agent_that_is_killed(soaking: Soaking) -> None:
    pid = soaking.status().pid
    agent = soaking.agent()
    soaking.bench.connection.run(["kill", "-9", str(agent.hello["pid"])], timeout_s=TIMEOUT_S)
    agent.close()
    assert soaking.goes_on(pid)


def test_it_outlives_the_connection_it_was_started_by(
    bench: Bench, folder: str, tmp_path: Path, soaking: Soaking
) -> None:
    spec = command_spec(bench.connection, folder, tmp_path, reboot=False)
    connection = bench.open()
    pid = SoakClient(AgentClient.start(connection, timeout_s=TIMEOUT_S)).start(spec)["pid"]
    connection.close()  # no goodbye: the whole group of the agent is ended
    other = Soaking(bench, spec["id"])
    assert other.goes_on(pid)
    with other.agent() as agent:
        client = SoakClient(agent)
        assert {status.id for status in client.list()} >= {spec["id"], soaking.soak_id}
        token = client.claim(spec["id"], "test")
        assert client.stop(spec["id"], token, "enough")
        client.remove(spec["id"], token)
        assert spec["id"] not in {status.id for status in client.list()}


@ON_HOST
def test_a_killed_runner_is_dead_and_resumes_once(soaking: Soaking) -> None:
    before = soaking.status()
    soaking.bench.connection.run(["kill", "-9", str(before.pid)], timeout_s=TIMEOUT_S)
    assert soaking.bench.ends(before.pid or 0)
    with soaking.agent() as agent:
        client = SoakClient(agent)
        assert client.status(soaking.soak_id).state == "dead"
        assert client.resume(soaking.soak_id)
        assert not client.resume(soaking.soak_id)
        assert eventually(lambda: client.status(soaking.soak_id).life == before.life + 1, TIMEOUT_S)
        token = client.claim(soaking.soak_id, "test")
        records = _records(client, soaking.soak_id, token)
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert "runner_restarted" in [record.get("event") for record in records]


@ON_HOST
def test_stopped_it_ends_and_its_last_record_says_so(soaking: Soaking) -> None:
    with soaking.agent() as agent:
        client = SoakClient(agent)
        token = client.claim(soaking.soak_id, "test")
        assert client.stop(soaking.soak_id, token, "enough")
        status = client.status(soaking.soak_id)
        assert (status.state, status.pid) == ("ended", None)
        assert _records(client, soaking.soak_id, token)[-1]["k"] == "end"
        assert not client.resume(soaking.soak_id)


@ON_HOST
def test_another_collector_fences_the_first_out(soaking: Soaking) -> None:
    with soaking.agent() as one, soaking.agent() as two:
        old = SoakClient(one).claim(soaking.soak_id, "one")
        with pytest.raises(HarnessError, match="one collects it"):
            SoakClient(two).claim(soaking.soak_id, "two")
        new = SoakClient(two).claim(soaking.soak_id, "two", take_over=True)
        assert new > old
        with pytest.raises(FencedError, match="two collects it now"):
            SoakClient(one).read(soaking.soak_id, old, 1, 0, 1000)
        assert SoakClient(two).read(soaking.soak_id, new, 1, 0, 1 << 20).last == 1


def _records(client: SoakClient, soak_id: str, token: int) -> list[dict[str, Any]]:
    """Return all records of all segments."""
    lines: list[bytes] = []
    for number in client.status(soak_id).segments:
        data = b""
        while piece := client.read(soak_id, token, number, len(data), 4096).data:
            data += piece
        lines += data.splitlines()
    return [json.loads(line[9:]) for line in lines]
