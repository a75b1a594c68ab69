"""From a folder of images to a proposed config: names, families of files, evidence for formats, the text of the file."""
