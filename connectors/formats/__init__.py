"""Readers and writers of annotation and GIS formats: read(path) gives records, write(path, records) writes them."""
