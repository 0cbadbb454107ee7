"""Steps of `scripts/bundled_model.py`, one file each."""
