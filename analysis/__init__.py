"""Figures and tables, drawn from the files of run directories alone."""
