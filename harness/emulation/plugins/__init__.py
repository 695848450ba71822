"""Our plugin for QEMU, and its builder."""
