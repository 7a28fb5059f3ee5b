"""Pixels only: archives, rasters, window arithmetic, duplicates. Knows nothing of the catalog."""
