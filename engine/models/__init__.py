"""The detection transformer: backbone, encoder, decoder, queries, matcher, losses."""
