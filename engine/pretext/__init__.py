"""Self-supervised tasks that train the detector without labels."""
