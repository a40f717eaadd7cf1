"""One run: from settings to a trained, measured model and its files."""
