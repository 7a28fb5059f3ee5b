"""Measures of detections against known boxes."""
