"""Pure statistics: numbers in, numbers out. No records, no I/O, no formatting."""

from harness.stats.differences import mover_difference_interval
from harness.stats.percentiles import (
    FloatArray,
    Interval,
    loadgen_samples_needed,
    median,
    percentile,
    percentile_interval,
    percentile_ranks,
    samples_needed,
)
from harness.stats.power import detectable_ratio
from harness.stats.processes import (
    MIN_PROCESSES,
    bootstrap_median_interval,
    process_medians,
    t_half_width,
    t_half_width_ratio,
)
from harness.stats.proportions import (
    auc,
    clopper_pearson,
    mcnemar_exact,
    newcombe_paired_difference,
    paired_bootstrap,
    wilson,
)
from harness.stats.ratios import (
    BETWEEN,
    ONE_DUET,
    WITHIN,
    LogInterval,
    abba_interval,
    abba_order,
    duet_interval,
    mover_ratio_interval,
    p_value_beyond,
    pair_log_ratios,
)
from harness.stats.resampling import median_standard_error
from harness.stats.samples import (
    PercentileInterval,
    Thinned,
    block_maxima,
    effective_sample_size,
    independent_lag1,
    lag1_autocorrelation,
    percentile_interval_autocorrelated,
    thin,
)
from harness.stats.sequential import holm, pocock_boundary, pocock_confidences
from harness.stats.slopes import slope_interval
from harness.stats.tails import percentile_ratio_interval

__all__ = [
    "BETWEEN",
    "MIN_PROCESSES",
    "ONE_DUET",
    "WITHIN",
    "FloatArray",
    "Interval",
    "LogInterval",
    "PercentileInterval",
    "Thinned",
    "abba_interval",
    "abba_order",
    "auc",
    "block_maxima",
    "bootstrap_median_interval",
    "clopper_pearson",
    "detectable_ratio",
    "duet_interval",
    "effective_sample_size",
    "holm",
    "independent_lag1",
    "lag1_autocorrelation",
    "loadgen_samples_needed",
    "mcnemar_exact",
    "median",
    "median_standard_error",
    "mover_difference_interval",
    "mover_ratio_interval",
    "newcombe_paired_difference",
    "p_value_beyond",
    "pair_log_ratios",
    "paired_bootstrap",
    "percentile",
    "percentile_interval",
    "percentile_interval_autocorrelated",
    "percentile_ranks",
    "percentile_ratio_interval",
    "pocock_boundary",
    "pocock_confidences",
    "process_medians",
    "samples_needed",
    "slope_interval",
    "t_half_width",
    "t_half_width_ratio",
    "thin",
    "wilson",
]
