"""A soak from the host: start, collect, read, judge. The device side is harness/agent/soak."""
