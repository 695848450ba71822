"""Loads the harness. Put fixtures of your own suites here too."""

pytest_plugins = ["harness.plugin"]
