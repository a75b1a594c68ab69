"""File names of simulated sequences, shared by the code that writes the files and the sample table."""


def frame_digits(frames: int) -> int:
    """Return the number of digits in frame numbers: three, or as many as the last frame needs."""
    return max(3, len(str(frames - 1)))


def name_frame(sequence: str, frame: int, *, frames: int) -> str:
    """Return the sample name of one frame in a sequence of `frames` frames, such as sim_0000_t000."""
    return f"{sequence}_t{frame:0{frame_digits(frames)}d}"


def name_truth(sequence: str, frame: int, *, frames: int) -> dict[str, str]:
    """Return the ground-truth files of a frame in Cell Tracking Challenge format, relative to the raw-image folder.

    Returns
    -------
    dict
        "objects" and "markers", label images of this frame, and "tracks", the track table of the sequence.
    """
    number = f"{frame:0{frame_digits(frames)}d}"
    return {
        "objects": f"{sequence}_GT/SEG/man_seg{number}.tif",
        "markers": f"{sequence}_GT/TRA/man_track{number}.tif",
        "tracks": f"{sequence}_GT/TRA/man_track.txt",
    }
