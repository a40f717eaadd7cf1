"""Flags, files and processes: the command line around `vae`."""
