"""Figures and tables, drawn from the files of run directories alone.

A figure is a module: `read_frame` makes a data frame of a run, or of several,
and `plot_NAME(frame, title, width)` returns the figure of it, `width` inches
wide, or at most as wide where it is made of images. It leaves the frame as it
is, and raises `figures.FigureError` where columns or rows are missing, or do
not fit together.
"""

from launch import process

process.guard_imports()
