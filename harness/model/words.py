"""What the words of a verdict are: where a number comes from, how a run ended, how two compare."""

from __future__ import annotations

from enum import StrEnum


class Fidelity(StrEnum):
    """Where a number comes from. Numbers of unlike fidelity never compare."""

    MEASURED = "measured"  # a physical clock or meter, or what emulation really executes
    VIRTUAL = "virtual"  # time on the deterministic clock of an emulated device
    ESTIMATED = "estimated"  # a model's, with its error band


class Verdict(StrEnum):
    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"  # the interval straddles the limit
    INVALID = "INVALID"  # conditions violated; says nothing about the model
    INFRA_ERROR = "INFRA_ERROR"  # the lab failed, not the model
    NOT_JUDGED = "NOT_JUDGED"  # measured, but nothing was set to judge it by


class Outcome(StrEnum):
    """How a run ended, before anything is judged."""

    COMPLETED = "completed"
    MODEL_REJECTED = "model_rejected"  # the runtime refuses the model
    INFRA_ERROR = "infra_error"
    INVALID = "invalid"  # ran, but its evidence is incomplete or contradicts itself
    SKIPPED = "skipped"  # the device or model lacks what the suite needs
    INTERRUPTED = "interrupted"  # Ctrl-C or a kill
    USAGE_ERROR = "usage_error"  # inputs, shapes or options don't fit; nothing was measured


class Scope(StrEnum):
    """What a breached condition invalidates."""

    ALL = "all"  # any number of the run
    ABSOLUTE = "absolute"  # its absolute numbers; what was taken side by side met the same conditions


class Effect(StrEnum):
    """How a candidate's value is set against its baseline's."""

    RATIO = "ratio"  # candidate ÷ baseline
    DIFFERENCE = "difference"  # candidate − baseline, of metrics that are ratios themselves (accuracy)


class Method(StrEnum):
    """How the two arms of a comparison were taken; what its interval rests on."""

    DUET = "duet"  # resident side by side, taking turns in blocks
    ABBA = "abba"  # fresh processes in randomised ABBA order
    PAIRED = "paired"  # the same samples through both
    EXACT = "exact"  # no noise: sizes
    RECORDED = "recorded"  # the baseline's numbers as they were recorded, from memory
