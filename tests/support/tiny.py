"""Where the tiny sound and broken models are (tests/data/models/README.md)."""

from pathlib import Path

MODELS = Path(__file__).resolve().parents[1] / "data" / "models"
