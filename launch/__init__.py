"""Flags, files and processes: the command line around `vae`."""

from launch import process

process.guard_imports()
