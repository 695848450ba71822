"""The `harness` command: one module a subcommand, each with `add_parser` and a function that returns an
exit code."""
