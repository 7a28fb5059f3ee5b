"""Data, augmentation, the one training loop and its checkpoints."""
