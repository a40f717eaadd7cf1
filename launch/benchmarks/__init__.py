"""Speed: contests with the loops of other frameworks, in turn."""
