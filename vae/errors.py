"""The error of a part that is asked for what it cannot be."""


class PartError(ValueError):
  """Data or settings that a part does not go with, in one line for its user.

  A fault of the part itself is any other error, and keeps its traceback.
  """
