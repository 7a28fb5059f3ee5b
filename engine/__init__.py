"""Tilehawk's science, usable as a library: no network, no web framework, no annotation server.

Importing this package loads nothing heavy; each room is imported by its own name.
"""
