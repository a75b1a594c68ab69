"""Readers and writers of annotation formats, one module per format, and functions they share."""
