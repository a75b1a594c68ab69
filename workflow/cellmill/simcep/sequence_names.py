"""How the files of a simulated sequence are called, for those who write them and for the sample table."""


def frame_digits(frames: int) -> int:
    """Give the digits of frame numbers: three, or as many as the last frame needs."""
    return max(3, len(str(frames - 1)))


def name_frame(sequence: str, frame: int, *, frames: int) -> str:
    """Name the sample of one frame of a sequence of `frames` frames, such as sim_0000_t000."""
    return f"{sequence}_t{frame:0{frame_digits(frames)}d}"


def name_truth(sequence: str, frame: int, *, frames: int) -> dict[str, str]:
    """Give the files of a frame's truth below the folder of raw images, as the Cell Tracking Challenge has them.

    Returns
    -------
    dict
        "objects" and "markers", label images of this frame, and "tracks", the table of the sequence.
    """
    number = f"{frame:0{frame_digits(frames)}d}"
    return {
        "objects": f"{sequence}_GT/SEG/man_seg{number}.tif",
        "markers": f"{sequence}_GT/TRA/man_track{number}.tif",
        "tracks": f"{sequence}_GT/TRA/man_track.txt",
    }
