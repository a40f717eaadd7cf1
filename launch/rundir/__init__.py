"""A run's folder: its opening, checkpoints, provenance. No TensorFlow."""
