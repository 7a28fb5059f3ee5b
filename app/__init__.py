"""Composition root: command line, settings, web server."""
