"""The host's side of the agent (docs/agent-protocol.md)."""

from harness.remote.archive import build_archive
from harness.remote.child import (
    Child,
    FedInputs,
    Loaded,
    MeasuredBlock,
    MemorySample,
    measure_args,
    parse_block,
    unpack,
)
from harness.remote.client import AgentClient
from harness.remote.requests import Pending, Reply

__all__ = [
    "AgentClient",
    "Child",
    "FedInputs",
    "Loaded",
    "MeasuredBlock",
    "MemorySample",
    "Pending",
    "Reply",
    "build_archive",
    "measure_args",
    "parse_block",
    "unpack",
]
