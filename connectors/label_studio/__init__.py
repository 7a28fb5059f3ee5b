"""Label Studio: tiles out as tasks with a prediction each, boxes in."""
