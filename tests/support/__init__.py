"""Helpers that fixtures share: a real sshd on loopback, an emulated board."""
