"""Files that `harness init` writes: devices.toml and the suites, the same as this repository's own, and a
plan to fill in. tests/unit/test_starter.py holds them to the originals."""
