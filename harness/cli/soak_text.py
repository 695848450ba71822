"""A soak's state as text for a terminal: one screen, the most urgent first."""

from __future__ import annotations

import os
from collections.abc import Sequence

from harness.cli.options import table_text
from harness.model import SoakEvent, SoakSettings, Verdict
from harness.report.wording import when
from harness.soak.attach import Stopped
from harness.soak.conclude import Concluded
from harness.soak.glance import LOST, UNCOLLECTED, Glance, StreamGlance
from harness.soak.heard import OVERDUE, SILENT, Heard
from harness.soak.tally import reached
from harness.units import counted, format_bytes, format_duration, format_ns, format_ratio

BAR = 30  # cells
STALE_S = 120.0  # of a claim: the lease of docs/soak-format.md
_LATE = {SILENT: "NOT HEARD OF", OVERDUE: "OVERDUE"}
_MARK = {
    "running": "running",
    "ended": "ended",
    "dead": "RUNNER GONE",
    "unknown": "NOTHING RECORDED YET",
    "unreachable": "OUT OF REACH",
    LOST: "LOST",
    UNCOLLECTED: "NOT COLLECTED YET",
}


def describe(glance: Glance) -> str:
    """Return the state of one soak, some twenty lines, the last one ended."""
    g = glance
    kind = ", compressed" if g.compressed else ""
    models = " + ".join(s.title for s in g.streams)
    lines = [
        f"{g.soak_id}  {_MARK.get(g.state, g.state.upper())}  {models} on {g.device}{kind}",
        _progress(g),
    ]
    if g.contact.problem:
        lines.append(f"{g.contact.problem}")
        lines.append(_last_seen(g))
    if g.raw_gone:
        kept = "below is what its session keeps" if g.windows else "its session doesn't have it either"
        lines.append(f"Its raw segments are gone from this host; {kept}.")
    lines.append("")
    lines += _streams(g)
    lines += ["", f"device     {_device(g)}", *_events(g)]
    lines += [f"alerts     {'; '.join(g.alerts) if g.alerts else 'none on'}"]
    lines += [f"collector  {_collector(g)}", f"next       {_next(g)}"]
    return "\n".join(lines) + "\n"


LIST_HEAD = ("id", "state", "seen", "device", "model", "reached", "errors", "session")


def table_row(g: Glance, heard: Heard) -> tuple[str, ...]:
    """Return the state as a row of `harness soak list`, under LIST_HEAD."""
    late = _LATE.get(heard.late)
    models = " + ".join(s.title for s in g.streams)
    stored = os.path.relpath(g.stored) if g.stored else ""
    if g.state == UNCOLLECTED:
        far = f"of {format_duration(g.duration_s)}, not collected yet"
        return (g.soak_id, late or _started(g), "never", g.device, models, far, "–", stored)
    errors = sum(sum(s.errors.values()) for s in g.streams)
    share = min(1.0, g.reached_s / g.duration_s)
    far = f"{reached(g.reached_s, g.duration_s)} ({100 * share:.0f}%)"
    state = late or (_MARK[g.state] if g.state in ("dead", LOST) else g.state)
    return (g.soak_id, state, _seen(g, heard), g.device, models, far, str(errors), stored)


def _seen(g: Glance, heard: Heard) -> str:
    if heard.age_s is None:
        return "–" if g.stored else "never"
    return "now" if heard.age_s < 1 else f"{format_duration(round(heard.age_s), 2)} ago"


def list_notes(found: Sequence[tuple[Glance, Heard]]) -> str:
    """Return what to do about those of `harness soak list` that wait for somebody, a line each; or ""."""
    return "".join(f"{g.soak_id}: {note}\n" for g, heard in found if (note := _note(g, heard)))


def _note(g: Glance, heard: Heard) -> str:
    """Return why one shouldn't be left as it is, and what to type; "" where it may be."""
    attach = f"harness soak attach {g.soak_id}"
    asks = f"`harness soak status {g.soak_id}` asks {g.device} how it stands"
    if heard.late == OVERDUE:
        then = "it was never collected" if g.state == UNCOLLECTED else f"it was {g.state} when last seen"
        return f"{heard.why}, and {then}; {asks}, `{attach}` fetches, judges and stores it"
    if heard.late == SILENT:
        return f"{heard.why}, and it was {g.state} then; {asks}, `{attach}` collects it"
    if g.state in ("running", "unreachable") or g.stored:
        return ""
    return _next(g)


def _started(g: Glance) -> str:
    return f"started {when(g.started_at)}" if g.started_at else "started"


def _progress(g: Glance) -> str:
    share = min(1.0, g.reached_s / g.duration_s)
    full = int(BAR * share)
    bar = "█" * full + "░" * (BAR - full)
    coverage = "" if g.coverage_ratio is None else f", coverage {format_ratio(g.coverage_ratio, 4)}"
    left = ""
    if g.ended is None and not g.compressed and g.state == "running":
        left = f", {format_duration(max(0.0, g.duration_s - g.reached_s))} left"
    return f"[{bar}]  {reached(g.reached_s, g.duration_s)}, {100 * share:.0f}%{coverage}{left}"


def _last_seen(g: Glance) -> str:
    ago = g.contact.seen_ago_s
    if g.state == LOST:
        return "Below is what was collected before." if g.windows else "Nothing was collected before."
    if ago is None:
        return "This host has never seen it: nothing is known of it here."
    goes_on = "the soak goes on there without this host"
    if g.ended is not None or g.state == "ended":
        goes_on = "it had ended by then"
    elif not g.compressed and g.reached_s + ago > g.duration_s:
        goes_on = "by now its duration is over, and it waits there to be collected"
    return f"Below is what was known {format_duration(round(ago), 2)} ago; {goes_on}."


def _streams(g: Glance) -> list[str]:
    head = ("stream", "cycle", "calls", "errors", "p50 first hour → now", "p99", "RSS", "and its change")
    rows = [_stream_row(stream, seen=g.windows > 0) for stream in g.streams]
    return table_text(head, rows).rstrip("\n").split("\n")


def _stream_row(s: StreamGlance, *, seen: bool) -> tuple[str, ...]:
    errors = ", ".join(f"{count} {kind}" for kind, count in sorted(s.errors.items())) or "0"
    if s.restarts:
        errors += f", {counted(s.restarts, 'restart')}"
    rss = "–" if s.rss_bytes is None else format_bytes(s.rss_bytes)
    if s.rss_slope_per_h is None:
        slope = "too early to say"
    else:
        sign = "−" if s.rss_slope_per_h < 0 else "+"
        slope = f"{sign}{format_bytes(abs(round(s.rss_slope_per_h)))}/h"
    calls, errors = (str(s.calls), errors) if seen else ("–", "–")  # none was observed, which isn't 0
    return (s.name, s.cycle, calls, errors, _moved(s, 0), _moved(s, 1), rss, slope)


def _moved(s: StreamGlance, at: int) -> str:
    if s.now_ns is None:
        return "–"
    first = "–" if s.first_ns is None else format_ns(s.first_ns[at])
    return f"{first} → {format_ns(s.now_ns[at])}"


def _device(g: Glance) -> str:
    parts = [
        f"{name or 'temperature'} {now:.1f} °C (highest {most:.1f})"
        for name, (now, most) in list(g.temps_c.items())[:2]
    ]
    if g.windows and not g.temps_c:
        parts.append("no temperature, as it is compressed" if g.compressed else "no temperature shown")
    if g.throttled is not None:
        parts.append("THROTTLED" if g.throttled else "not throttled")
    elif g.windows:
        parts.append("throttling not observable")
    if g.disk_free_bytes is not None:
        parts.append(f"{format_bytes(g.disk_free_bytes)} of disk free")
    parts.append(f"{counted(g.windows, 'window')} of {format_duration(g.window_s)}")
    parts.append(f"{counted(g.lives, 'life', 'lives')} of the runner")
    return ", ".join(parts)


def _events(g: Glance) -> list[str]:
    if not g.events:
        return ["events     none"]
    more = g.events_total - len(g.events)
    lines = [f"events     the last {len(g.events)} of {g.events_total}:" if more else "events"]
    return [*lines, *(f"  {_event(event)}" for event in g.events)]


def _event(e: SoakEvent) -> str:
    who = f" [{e.stream}]" if e.stream else ""
    text = " ".join(e.text.split())
    return f"{format_duration(e.t_s):>8}  {e.kind}{who}  {text[:70]}".rstrip()


def _collector(g: Glance) -> str:
    if not g.collector:
        return "none; all of it is here" if g.stored else "nobody has collected from it yet"
    ago = "" if g.collector_ago_s is None else f", {format_duration(round(g.collector_ago_s))} ago"
    return f"{g.collector}{ago}{'; it has ended' if g.collector_gone else ''}"


def _next(g: Glance) -> str:
    attach = f"harness soak attach {g.soak_id}"
    if g.stored:
        return f"nothing: it is judged and stored in {os.path.relpath(g.stored)}"
    if g.ended is not None or g.state == "ended":
        return f"it ended ({g.ended or 'see its end there'}); `{attach}` fetches, judges and stores it"
    if g.state == LOST:
        return (
            f"the emulated machine of {g.device} is gone, and what wasn't collected with it; remove "
            f"{os.path.relpath(g.ledger)} to forget it"
        )
    if g.state == "dead":
        return f"`{attach}` starts its runner again, where its settings allow that, and collects"
    if g.state == UNCOLLECTED:
        return f"`harness soak status {g.soak_id}` asks {g.device} how it stands, `{attach}` collects it"
    if g.state == "unknown":
        return f"its runner has recorded nothing yet, and is gone; `{attach}` starts it again and collects"
    if g.state == "unreachable":
        return f"check its power and network; then `{attach}`"
    if g.collector_ago_s is not None and g.collector_ago_s <= STALE_S and not g.collector_gone:
        return "it is being collected, and judged there at its end"
    return f"nobody collects; it keeps its windows on its own disk until `{attach}`"


def started(soak_id: str, device: str, settings: SoakSettings, boot_hook: str | None) -> str:
    """Return what is said of a soak that runs now."""
    assert settings.duration_s is not None
    kind = ", compressed: idle time is skipped" if settings.compressed else ""
    lines = [
        f"{soak_id}: runs on {device} for {format_duration(settings.duration_s)}{kind}. It needs nobody now.",
        f"  harness soak status {soak_id}   how it stands",
        f"  harness soak attach {soak_id}   collect, judge and report it",
        f"  harness soak stop {soak_id}     end it early",
    ]
    if boot_hook is None and settings.restart_after_reboot:
        lines.append("After a reboot of the device it goes on once it is attached: nothing there starts it.")
    return "\n".join(lines) + "\n"


def stopped(soak_id: str, done: Stopped) -> str:
    """Return what is said of a soak that was told to stop, and has ended."""
    what = "had ended already" if done.already else "stopped"
    if done.collector:
        return f"{soak_id}: {what}; {done.collector} collects it, and judges and stores it there\n"
    return f"{soak_id}: {what}; `harness soak attach {soak_id}` judges and stores it\n"


def concluded(soak_id: str, done: Concluded) -> str:
    """Return the verdict of a stored soak and what it rests on."""
    lines = [f"{soak_id}: {done.verdict}"]
    for row in done.results:
        if row.verdict not in (Verdict.PASS, Verdict.NOT_JUDGED):
            lines += [f"  {row.verdict}: {reason}" for reason in row.reasons[:2]]
    lines = list(dict.fromkeys(lines))  # what invalidates one time invalidates each
    lines += [f"release  {done.release.verdict}", f"report   {os.path.relpath(done.folder / 'report.html')}"]
    return "\n".join(lines) + "\n"
