"""Known labels standing in for an annotator."""
