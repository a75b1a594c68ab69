"""Simulated microscope images with known ground truth, after SIMCEP.

One module per step, in the order of image formation: shapes and texture draw a cell, population places the cells,
optics blurs them, illumination adds background light, and detector converts light to counts.

SOURCE Lehmussola et al. 2007, IEEE Trans. Med. Imaging 26(7), doi:10.1109/TMI.2007.896925. Written from
a description of the published simulator, not from its code (GPL). Angles in rad, positions in px with the
centre of the first pixel at (0, 0), intensities as a fraction of the camera's full scale.
"""
