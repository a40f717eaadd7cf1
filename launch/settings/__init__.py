"""What is asked for: settings, flags, presets, parts. No TensorFlow."""
