"""What the numbers of a fit depend on, as plain tables: a piece serves again only where its table is equal.

Also what a real board's CPUs are held to, which must not move from one network to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness import board as boards
from harness import runtimes
from harness.measure.bench import Bench, Look
from harness.measure.latency import plain_settings, require_clock, settings_for
from harness.model import Device, DeviceFacts, Fidelity, ModelCase
from harness.runtimes import RuntimeDescriptor

COUNTING = 3  # of how a call is counted (harness/counting.py): raise it when that changes a count


def of_real(bench: Bench) -> dict[str, Any]:
    """Return what a network's time on the real board depends on, as far as the harness sees it."""
    device, facts = bench.board.device, bench.board.facts.details
    return {
        **_of_model(bench.case, bench.runtime.name, bench.look, bench.threads),
        "environment": bench.env.sha256,
        "settings": plain_settings(settings_for(require_clock(bench))),
        "board": [device.name, device.kind, bench.board.facts.serial, facts.get("model")],
        "processor": [facts.get("cpu_model"), facts.get("cpus"), list(device.pinned_cpus)],
        "kernel": facts.get("kernel"),
        "python": facts.get("python"),
        "agent": facts.get("agent_sha256"),
        "clock": clock_of(bench.board.conditions()),
    }


def of_emulated(device: Device, found: RuntimeDescriptor, case: ModelCase, look: Look) -> dict[str, Any]:
    """Return what the counts of an emulated device depend on, without starting it.

    Raises HostSetupError where the plugin can't be built.
    """
    from harness.emulation.plugins import build_plugin
    from harness.emulation.recipe import read_recipe
    from harness.estimate import cores
    from harness.remote import build_archive

    if device.qemu is None:
        raise TypeError(f"{device.name} is not emulated")
    environment = runtimes.environment(case.runtime, found, boards.EMULATED_PLATFORM)
    return {
        **_of_model(case, found.name, look, 1),
        "environment": environment.sha256,
        "settings": plain_settings(settings_for(Fidelity.VIRTUAL)),
        "machine": asdict(device.qemu),
        "image": read_recipe(device.qemu).hash,
        "agent": build_archive()[1],
        "plugin": build_plugin().parent.name,  # of QEMU, the source and the compiler
        "schedule": cores.FORMAT,
        "counting": COUNTING,
    }


def _of_model(case: ModelCase, runtime: str, look: Look, threads: int) -> dict[str, Any]:
    return {
        "model": case.artifact.sha256,
        "shapes": {name: list(shape) for name, shape in case.shapes.items()},
        "inputs": look.inputs.sha256,
        "runtime": [runtime, look.runtime_version],
        "options": dict(case.options),
        "threads": threads,
    }


def clock_of(reading: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the CPUs' frequencies are held to, by key; None for what can't be seen."""
    return {key: reading.get(key) for key in ("freq_min_hz", "freq_max_hz", "governor", "freq_boost")}


def say_clock(clock: Mapping[str, Any]) -> str:
    """Return `clock_of`'s answer in a few words, such as "600 to 1500 MHz, ondemand"."""
    lows, highs = (list((clock.get(key) or {}).values()) for key in ("freq_min_hz", "freq_max_hz"))
    if not lows or not highs:
        return "frequency not observable"
    names = sorted(set((clock.get("governor") or {}).values()))
    held = f"{min(lows) / 1e6:.0f} to {max(highs) / 1e6:.0f} MHz"
    return ", ".join([held, *names, *(["boost"] if clock.get("freq_boost") else [])])


def describe_processor(facts: DeviceFacts) -> str:
    """Return what a board and its processor call themselves."""
    named = [facts.details.get("model"), facts.details.get("cpu_model"), facts.platform]
    return ", ".join(dict.fromkeys(str(what) for what in named if what))


def describe_board(facts: DeviceFacts, clock: Mapping[str, Any]) -> str:
    """Return what a calibration says that its times were taken on."""
    return f"{describe_processor(facts)}, {say_clock(clock)}"
