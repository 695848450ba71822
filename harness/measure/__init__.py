"""Measurements: each module measures one thing on an open board and returns an Observation."""
