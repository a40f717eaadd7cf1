"""The loops a user would write instead; each file stands alone."""
