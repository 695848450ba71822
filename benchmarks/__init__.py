"""The measured claims, as ratios: each against a peer or a limit that is measured in the same run.

    make bench                             # everything, under 15 minutes
    python -m benchmarks steady collect    # some of it
    python -m benchmarks --quick           # fewer repetitions

One module an item; docs/benchmarks.md says what each compares and holds the newest results.
"""
