"""From a folder of images to a proposed config: names, families of files, evidence for formats, and its text."""
