"""Alerts while a soak is collected: on the ledger's time line, to a webhook, and to an early end.

Whether the soak passes is judged from its windows at the end; this only tells of it in time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.model import SoakSettings, SoakTable
from harness.soak.alert_rules import parse_rules
from harness.soak.alerts import Alert, AlertWatch
from harness.soak.collector import Visit
from harness.soak.ledger import Ledger
from harness.soak.spool import Record, Segment
from harness.soak.table import TableBuilder
from harness.soak.webhook import alert_message, post

Post = Callable[[str, Mapping[str, Any]], str]

EVENT = "alert"


class Alarm:
    """Watches one soak's records as they are collected. `on_records` and `on_visit` are the collector's."""

    def __init__(
        self,
        ledger: Ledger,
        settings: SoakSettings,
        device: str,
        *,
        ram_bytes: float | None = None,
        url: str | None = None,
        known: SoakTable | None = None,
        send: Post = post,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._device = device
        self._url = url
        self._send = send
        self._watch = AlertWatch(
            parse_rules(settings.alerts),
            availability_ratio=settings.availability_ratio,
            ram_bytes=ram_bytes,
        )
        self._life: Record | None = None
        self._pending: list[Alert] = []
        self._told = {_key(record["details"]) for record in ledger.read_events() if record["event"] == EVENT}
        if known is not None and len(known.start_s):
            self._pending += self._watch.take_table(known)

    @property
    def active(self) -> tuple[str, ...]:
        """Return the rules that hold now, each with since when."""
        return tuple(alert.describe() for alert in self._watch.alerts if alert.cleared_s is None)

    def on_records(self, records: Sequence[Record]) -> None:
        """Take what a visit brought."""
        lives = [record for record in records if record["k"] == "life"]
        # the windows' values are told by the life before them, which an earlier visit brought
        whole = [self._life, *records] if self._life is not None else list(records)
        if self._life is None and not lives:
            return
        self._life = lives[-1] if lives else self._life
        builder = TableBuilder()
        builder.add(Segment(records=whole, crcs=[0] * len(whole)))
        self._pending += self._watch.take_table(builder.build())

    def on_visit(self, visit: Visit) -> str | None:
        """Tell of what fired since the last visit; return why the soak must end, None to go on."""
        fired = [a for a in self._pending if _key({"rule": a.rule, "fired_s": a.fired_s}) not in self._told]
        self._pending.clear()
        abort = bool(fired) and self._settings.abort_on_alert and not visit.ended
        for alert in fired:
            self._tell(alert, abort)
        return f"aborted: {fired[0].rule}" if abort else None

    def _tell(self, alert: Alert, abort: bool) -> None:
        details: dict[str, Any] = {"rule": alert.rule, "fired_s": alert.fired_s, "aborted": abort}
        self._told.add(_key(details))
        text = alert.describe()
        if self._url is not None:
            message = alert_message(
                self._ledger.soak_id, self._device, alert.rule, text, aborted=abort, t_s=alert.fired_s
            )
            failure = self._send(self._url, message)
            details["webhook"] = failure or "told"
            if failure:
                text += f"; the webhook {failure}"
        self._ledger.add_event(EVENT, round(alert.fired_s * 1e9), text, details)


def _key(details: Mapping[str, Any]) -> tuple[str, int]:
    return str(details.get("rule")), round(float(details.get("fired_s") or 0.0))
