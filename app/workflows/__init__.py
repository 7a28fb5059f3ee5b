"""Workflows: where stages are strung into rounds, one file a flow."""
