"""What runs on the device: a stdlib-only agent, shipped as one archive.

Syntax and library use are kept to Python 3.9. `wire` is shared with the host's side; everything else is the
device's own. docs/agent-protocol.md is the contract.
"""
