"""Simulated microscope images with a known truth, after SIMCEP.

One module a step, in the order of the light: shapes and texture make a cell, population places cells,
optics puts them out of focus, illumination lies over them, the detector counts.

SOURCE Lehmussola et al. 2007, IEEE Trans. Med. Imaging 26(7), doi:10.1109/TMI.2007.896925. Written from
a description of the published simulator, not from its code (GPL). Angles in rad, positions in px with the
centre of the first pixel at (0, 0), intensities as a fraction of the camera's full scale.
"""
