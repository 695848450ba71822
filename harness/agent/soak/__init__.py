"""The soak on the device: a detached runner and its spool (docs/soak-format.md)."""
