"""Runtimes: which there are, the environment that carries one to a device, and the options it takes."""

from harness.runtimes.environments import Environment, Platform, environment
from harness.runtimes.known import (
    BUILT_IN,
    ENTRY_POINT_GROUP,
    RuntimeDescriptor,
    descriptor,
    descriptors,
    runs_format,
    settled,
)

__all__ = [
    "BUILT_IN",
    "ENTRY_POINT_GROUP",
    "Environment",
    "Platform",
    "RuntimeDescriptor",
    "descriptor",
    "descriptors",
    "environment",
    "runs_format",
    "settled",
]
