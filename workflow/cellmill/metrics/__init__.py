"""Scores of one image against its truth: pixels and objects. Pure functions on counts and label images."""
