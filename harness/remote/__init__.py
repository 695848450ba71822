"""The host's side of the agent (docs/agent-protocol.md)."""

from harness.remote.archive import build_archive
from harness.remote.child import (
    Child,
    FedInputs,
    Loaded,
    MeasuredBlock,
    MemorySample,
    PacedBlock,
    measure_args,
    parse_block,
    parse_paced,
    unpack,
)
from harness.remote.client import AgentClient
from harness.remote.duet import DuetArm, DuetBlocks, run_duet
from harness.remote.requests import Pending, Reply

__all__ = [
    "AgentClient",
    "Child",
    "DuetArm",
    "DuetBlocks",
    "FedInputs",
    "Loaded",
    "MeasuredBlock",
    "MemorySample",
    "PacedBlock",
    "Pending",
    "Reply",
    "build_archive",
    "measure_args",
    "parse_block",
    "parse_paced",
    "run_duet",
    "unpack",
]
