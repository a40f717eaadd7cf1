"""What a run leaves: its folder, checkpoints, provenance. No TensorFlow."""
