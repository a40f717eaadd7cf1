"""Settings: their table, flags, presets and parts. No TensorFlow."""
