"""Schema revisions in order; the last is the one that this code speaks."""

REVISIONS = ("0001", "0002")
HEAD = REVISIONS[-1]
