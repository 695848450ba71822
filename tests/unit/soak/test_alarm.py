"""Alerts while a soak is collected: told once, whoever collects; to the webhook; to an early end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import spools
from support.soak_ledgers import ABOUT, make_ledger

from harness.remote.soak import SoakStatus
from harness.soak.alarm import Alarm
from harness.soak.collector import Visit
from harness.soak.fetch import Fetched
from harness.soak.ledger import Ledger
from harness.soak.table import read_table

RULE = "rss_bytes > 100 MB for 2s"
URL = "https://chat.example/secret"


def a_visit(t_s: float, ended: str = "") -> Visit:
    status = SoakStatus("s", "running", 1, "b", 1, 1, round(t_s * 1e9), 10**12, 0, {}, {}, 0)
    return Visit(status, Fetched(1, 1, 0), t_s, 0.1, ended=ended)


def windows(first: int, count: int, rss_bytes: int) -> list[spools.Record]:
    made = [spools.window(i) for i in range(first, first + count)]
    for window in made:
        window["streams"]["main"]["rss_bytes"] = rss_bytes
    return made


def an_alarm(
    ledger: Ledger, sent: list[Any], *, answer: str = "", known: bool = False, **settings: Any
) -> Alarm:
    def send(url: str, message: Any) -> str:
        sent.append((url, message))
        return answer

    return Alarm(
        ledger,
        replace(ABOUT.settings, alerts=(RULE,), **settings),
        "rpi4-01",
        url=URL,
        known=read_table(ledger.folder) if known else None,
        send=send,
    )


def alerts(ledger: Ledger) -> list[spools.Record]:
    return [record for record in ledger.read_events() if record["event"] == "alert"]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return make_ledger(tmp_path, spools.numbered([spools.life(), *windows(0, 2, 10**6)]))


def test_it_fires_once_it_has_held_over_visits_and_is_told_once(ledger):
    sent: list[Any] = []
    alarm = an_alarm(ledger, sent)
    alarm.on_records(spools.numbered([spools.life(), *windows(0, 2, 10**6)]))
    assert alarm.on_visit(a_visit(2)) is None
    # a later visit brings windows without the life that names their channels
    alarm.on_records(spools.numbered(windows(2, 1, 200 * 10**6), first=4))
    assert alarm.on_visit(a_visit(3)) is None
    assert sent == []
    alarm.on_records(spools.numbered(windows(3, 2, 200 * 10**6), first=5))
    assert alarm.on_visit(a_visit(5)) is None
    ((url, message),) = sent
    assert url == URL
    assert (message["soak"], message["device"], message["aborted"]) == (ledger.soak_id, "rpi4-01", False)
    assert message["rule"] == RULE
    assert alarm.active
    (event,) = alerts(ledger)
    assert event["details"]["webhook"] == "told"
    assert RULE in event["text"]
    assert alarm.on_visit(a_visit(6)) is None
    assert len(sent) == 1


def test_the_next_collector_doesnt_tell_it_again(tmp_path):
    records = spools.numbered([spools.life(), *windows(0, 5, 200 * 10**6)])
    ledger = make_ledger(tmp_path, records)
    sent: list[Any] = []
    for _ in range(2):
        alarm = an_alarm(ledger, sent, known=True)
        alarm.on_visit(a_visit(5))
        assert alarm.active
    assert len(sent) == len(alerts(ledger)) == 1


def test_a_webhook_that_fails_is_noted_without_its_url_and_stops_nothing(ledger):
    alarm = an_alarm(ledger, [], answer="answered 410")
    alarm.on_records(spools.numbered([spools.life(), *windows(0, 5, 200 * 10**6)]))
    assert alarm.on_visit(a_visit(5)) is None
    (event,) = alerts(ledger)
    assert "the webhook answered 410" in event["text"]
    assert "secret" not in str(event)


def test_it_ends_the_soak_where_that_is_asked_for(ledger):
    sent: list[Any] = []
    alarm = an_alarm(ledger, sent, abort_on_alert=True)
    alarm.on_records(spools.numbered([spools.life(), *windows(0, 5, 200 * 10**6)]))
    assert alarm.on_visit(a_visit(5)) == f"aborted: {RULE}"
    assert sent[0][1]["aborted"] is True
    assert alarm.on_visit(a_visit(6)) is None


def test_one_that_has_ended_isnt_aborted(ledger):
    alarm = an_alarm(ledger, [], abort_on_alert=True)
    alarm.on_records(spools.numbered([spools.life(), *windows(0, 5, 200 * 10**6)]))
    assert alarm.on_visit(a_visit(5, ended="ended")) is None
    assert len(alerts(ledger)) == 1


def test_windows_before_any_life_are_left_to_the_verdict(ledger):
    alarm = an_alarm(ledger, [])
    alarm.on_records(spools.numbered(windows(0, 5, 200 * 10**6)))  # the line of their life is damaged
    assert alarm.on_visit(a_visit(5)) is None
