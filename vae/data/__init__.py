"""Data: where examples come from, how they are prepared, split and batched."""
