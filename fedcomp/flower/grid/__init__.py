"""Grids around Flower's: replies as they come, and as strangers send them."""
