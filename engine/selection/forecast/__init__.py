"""Learning curves: what more labels will bring, and what they will cost."""
