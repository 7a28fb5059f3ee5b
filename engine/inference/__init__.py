"""Prediction on tiles, detection over whole scenes, merging across seams."""
