"""Which tiles are worth the next minute: pure functions of arrays, a config and a seed."""
