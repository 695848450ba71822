"""The frozen records that travel right along the spine. No I/O, no statistics.

registry → connection → deployment → measurement → store → gate → report
"""

from __future__ import annotations

from harness.model.cases import (
    Artifact,
    ModelCase,
    MultiStreamLoad,
    PeriodicLoad,
    PlanModel,
    RuntimeSpec,
    ServerLoad,
    Signature,
    TensorSpec,
)
from harness.model.channels import Capture, Channel, ChannelKind, Health, InstrumentSpec, Mode, Reading
from harness.model.devices import (
    Device,
    DeviceFacts,
    DeviceType,
    EnergySettings,
    Limits,
    PowerModel,
    QemuBoard,
    SshAddress,
    ThermalSettings,
)
from harness.model.plans import Baseline, Budget, CommandRuntime, Plan, RecordedBaseline, RecordedNumber
from harness.model.runs import (
    WITHIN_ONE_PROCESS,
    Comparison,
    Condition,
    ErrorRecord,
    Measurement,
    Run,
    Series,
)
from harness.model.soak import (
    SoakEvent,
    SoakLife,
    SoakLimits,
    SoakLoad,
    SoakSettings,
    SoakTable,
    SparseHistograms,
)
from harness.model.verdicts import Calibration, Detectable, Judgement, Release, Result, SessionRecord
from harness.model.words import Effect, Fidelity, Method, Outcome, Scope, Verdict

__all__ = [
    "WITHIN_ONE_PROCESS",
    "Artifact",
    "Baseline",
    "Budget",
    "Calibration",
    "Capture",
    "Channel",
    "ChannelKind",
    "CommandRuntime",
    "Comparison",
    "Condition",
    "Detectable",
    "Device",
    "DeviceFacts",
    "DeviceType",
    "Effect",
    "EnergySettings",
    "ErrorRecord",
    "Fidelity",
    "Health",
    "InstrumentSpec",
    "Judgement",
    "Limits",
    "Measurement",
    "Method",
    "Mode",
    "ModelCase",
    "MultiStreamLoad",
    "Outcome",
    "PeriodicLoad",
    "Plan",
    "PlanModel",
    "PowerModel",
    "QemuBoard",
    "Reading",
    "RecordedBaseline",
    "RecordedNumber",
    "Release",
    "Result",
    "Run",
    "RuntimeSpec",
    "Scope",
    "Series",
    "ServerLoad",
    "SessionRecord",
    "Signature",
    "SoakEvent",
    "SoakLife",
    "SoakLimits",
    "SoakLoad",
    "SoakSettings",
    "SoakTable",
    "SparseHistograms",
    "SshAddress",
    "TensorSpec",
    "ThermalSettings",
    "Verdict",
]
