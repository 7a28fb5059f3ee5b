"""HTTP routes of our own, one file a resource."""
