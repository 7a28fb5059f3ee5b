"""The outside world, behind small protocols and plain records."""
