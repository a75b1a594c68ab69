"""One module for each way in which labs store annotations."""
