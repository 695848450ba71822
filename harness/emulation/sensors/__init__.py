"""The emulated board's sensors: an I2C bus that the host serves, and the board model behind its chips.

Standard library and siblings only: `serve` runs on the host without the harness's packages, `firmware` and
`board_model` run in the guest. `client` is the harness's way to both and is imported by name.
"""
