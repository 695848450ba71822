"""Pure statistics: numbers in, numbers out. No records, no I/O, no formatting."""

from harness.stats.percentiles import (
    FloatArray,
    Interval,
    loadgen_samples_needed,
    median,
    percentile,
    percentile_interval,
    samples_needed,
)
from harness.stats.processes import (
    MIN_PROCESSES,
    bootstrap_median_interval,
    process_medians,
    t_half_width_ratio,
)
from harness.stats.proportions import clopper_pearson
from harness.stats.samples import lag1_autocorrelation

__all__ = [
    "MIN_PROCESSES",
    "FloatArray",
    "Interval",
    "bootstrap_median_interval",
    "clopper_pearson",
    "lag1_autocorrelation",
    "loadgen_samples_needed",
    "median",
    "percentile",
    "percentile_interval",
    "process_medians",
    "samples_needed",
    "t_half_width_ratio",
]
