"""The order in which files are handed to the workers of `make test`: the longest first, whole files.

A worker takes the next file once it is done with its last. Long ones at the end would leave the other idle.
"""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
# by the CPU seconds that each took, longest first; what isn't named follows
LONGEST = (
    "device/test_soak.py",
    "device/test_supervised.py",
    "device/test_soak_compressed.py",
    "contract/test_soak_collected.py",
    "device/test_power.py",
    "device/test_faults.py",
    "device/test_soak_faults.py",
    "device/test_sensors.py",
    "device/test_fit.py",
    "device/test_whole_session.py",
    "device/test_comparisons.py",
    "device/test_emulation.py",
    "contract/test_files.py",
    "plugin/test_soak.py",
    "plugin/test_verdicts.py",
    "device/test_deployment.py",
    "contract/test_commands.py",
    "plugin/test_comparisons.py",
    "device/test_interruptions.py",
    "device/test_example_ncnn.py",
    "contract/test_soak_detached.py",
    "device/test_runtimes.py",
    "plugin/test_bad_input.py",
    "plugin/test_power.py",
    "plugin/test_scenarios.py",
    "browser/test_report_in_chromium.py",
    "device/test_measures.py",
    "device/test_limits.py",
    "browser/test_soak_in_chromium.py",
    "plugin/test_whole_session.py",
    "contract/test_emulated.py",
    "plugin/test_baselines.py",
    "contract/test_turns.py",
    "device/test_virtual_clock.py",
)


def compute_place(file: Path) -> int:
    """Return the place of a file's tests among all: the lower, the earlier."""
    name = file.relative_to(TESTS).as_posix() if TESTS in file.parents else ""
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)
