"""Compares two runs: `python -m launch.compare RUN_A RUN_B`."""

from launch import cli
from launch.rundir import differences, opening

_SUMMARY = """
Shows side by side in what two runs differ: settings; versions, commit, device
and data; and the results of the last evaluation. Either may still be training.
Usage: python -m launch.compare RUN_A RUN_B
"""


def main(old: str, new: str) -> int:
  """Prints in what two runs differ and returns the exit code."""
  print(differences.between(*map(opening.find, (old, new))))
  return 0


if __name__ == '__main__':
  cli.start(
    main,
    _SUMMARY,
    arguments=('RUN_A', 'RUN_B'),
    without=('run_dir', 'data_dir'),
  )
