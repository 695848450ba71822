"""A board's power and temperature from how busy it is: one thermal mass, power linear in busy cores. Pure.

Runs in the guest. The emulated board has no power and no heat of its own; everything from here is an estimate
with the boundary "board model".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# vcgencmd get_throttled (Raspberry Pi documentation): bits 0-3 are now, 16-19 the same since boot
CURRENTLY_THROTTLED = 1 << 2
SOFT_TEMP_LIMIT = 1 << 3
_SINCE_BOOT = 16


@dataclass(frozen=True)
class Parameters:
    """A board: powers of the whole board at idle and with all `cores` busy, one heat path to `ambient_c`."""

    idle_power_w: float
    load_power_w: float
    cores: int
    supply_voltage_v: float
    thermal_resistance_k_per_w: float
    heat_capacity_j_per_k: float
    ambient_c: float
    trip_c: float
    hysteresis_c: float
    throttled_speed_ratio: float  # of full speed, while throttled
    time_scale: float = 1.0  # how many times as fast as the board's its temperature moves


@dataclass(frozen=True)
class State:
    """Where the model stands. `throttled_bits` as the Raspberry Pi's firmware numbers them."""

    temp_c: float
    power_w: float
    busy_cores: float
    throttled_bits: int = 0

    @property
    def throttled(self) -> bool:
        return bool(self.throttled_bits & CURRENTLY_THROTTLED)


def compute_power_w(board: Parameters, busy_cores: float) -> float:
    """Return what the board draws with `busy_cores` of its cores at work; more than it has count as all."""
    share = min(max(busy_cores / board.cores, 0.0), 1.0)
    return board.idle_power_w + (board.load_power_w - board.idle_power_w) * share


def compute_settled_c(board: Parameters, power_w: float) -> float:
    """Return the temperature that a steady `power_w` leads to."""
    return board.ambient_c + board.thermal_resistance_k_per_w * power_w


def start(board: Parameters) -> State:
    """Return a board that has been idle for long."""
    return State(compute_settled_c(board, board.idle_power_w), board.idle_power_w, 0.0)


def step(board: Parameters, state: State, elapsed_s: float, busy_cores: float) -> State:
    """Return the state after `elapsed_s` seconds with `busy_cores` busy on average; exact for any length.

    Throttling begins at the trip point and ends `hysteresis_c` below it.
    """
    power_w = compute_power_w(board, busy_cores)
    settled_c = compute_settled_c(board, power_w)
    time_constant_s = board.thermal_resistance_k_per_w * board.heat_capacity_j_per_k / board.time_scale
    temp_c = settled_c + (state.temp_c - settled_c) * math.exp(-elapsed_s / time_constant_s)
    limit_c = board.trip_c - (board.hysteresis_c if state.throttled else 0.0)
    now = CURRENTLY_THROTTLED | SOFT_TEMP_LIMIT if temp_c >= limit_c else 0
    ever = (state.throttled_bits >> _SINCE_BOOT) | now
    return State(temp_c, power_w, busy_cores, now | ever << _SINCE_BOOT)
