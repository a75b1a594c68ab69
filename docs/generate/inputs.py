"""Build docs/inputs.md, the page on images, annotations and bad input.

Its messages are those of the cases in tests/pipeline/bad_inputs/cases.py.
"""

from pathlib import Path

from cellmill.annotations.formats import ANNOTATION_FORMATS
from cellmill.images.axes import MAX_DECODED_BYTES, MAX_PIXELS
from cellmill.images.png_jpeg import KIND_OF_SUFFIX
from pipeline.bad_inputs.cases import CASES, Case

COMMAND = "make reference"
PAGE = Path(__file__).resolve().parents[1] / "inputs.md"
MIB, GIB = 2**20, 2**30

# kind (a value of KIND_OF_SUFFIX, or a folder) -> bit depths, axes, stacks, notes
IMAGE_FORMATS = {
    "PNG": (
        "8 and 16 bits; 1, 2 and 4 bits become 8, and stay the stored numbers in annotations",
        "grey, RGB, each with or without alpha; a palette gives its colours, in annotations its numbers",
        "no",
        f"decoded as a whole: at most {MAX_DECODED_BYTES // GIB} GiB of pixels",
    ),
    "JPEG": (
        "8 bits",
        "grey, RGB",
        "no",
        f"decoded as a whole: at most {MAX_DECODED_BYTES // GIB} GiB. The check remarks that its intensities are "
        "changed; refused for annotations of numbers or colours",
    ),
    "TIFF": (
        "integers of 8, 12, 16, 32 and 64 bits, with sign or without, floats of 16, 32 and 64 bits, 1 bit",
        "grey, RGB, RGBA, channels; strips or tiles, any usual compression, either byte order, BigTIFF; of a pyramid "
        "the largest",
        "time, z, channel: OME-TIFF and ImageJ say it, else `stack.axis`",
        f"read by bands of rows; a strip or tile at most {MAX_DECODED_BYTES // GIB} GiB. The pixel size is that of "
        "OME, of ImageJ, or a resolution in cm. Files that OME metadata name besides are not read",
    ),
    "OME-Zarr": (
        "as TIFF",
        "grey, channels; version 0.4 and 0.5, full resolution",
        "time, z, channel",
        "a folder that is one image; of a plate or collection name the images inside. Chunks of numbers only, no "
        "pickle. A chunk that is missing is empty, as the format has it",
    ),
}

ALWAYS_READ = ("ignore", "repair", "fragments", "min_object_px", "missing")
FOUND = {"plan": "before any job", "check": "`snakemake check`"}


def inputs_page() -> str:
    """Return the text of docs/inputs.md."""
    suffixes = {kind: [s for s, found in KIND_OF_SUFFIX.items() if found == kind] for kind in IMAGE_FORMATS}
    lines = [
        "# What cellmill reads, and what it says of what it cannot read",
        "",
        f"Made by `{COMMAND}`; do not edit. The messages are those that the tests compare word for word.",
        "",
        "## Images",
        "",
        f"A file is what its first bytes say, and they have to agree with its suffix. A plane has at most {MAX_PIXELS} "
        "pixels, all of them finite real numbers.",
        "",
        "| format | suffix | numbers | axes | stacks | to know |",
        "|---|---|---|---|---|---|",
    ]
    for kind, facts in IMAGE_FORMATS.items():
        shown = ", ".join(f"`{suffix}`" for suffix in suffixes[kind]) or "a folder"
        lines.append(f"| {kind} | {shown} | " + " | ".join(facts) + " |")
    lines += [
        "",
        "Other formats (`.czi`, `.nd2`, `.lif`, …): convert them to OME-TIFF or OME-Zarr, as bioformats2raw and Fiji "
        "do.",
        "",
        "## Annotations",
        "",
        f"Every format also reads {', '.join(f'`{key}`' for key in ALWAYS_READ)}. What the keys mean: "
        "[config.md](config.md).",
        "",
        "| format | keys, the needed ones in bold | reads | written by |",
        "|---|---|---|---|",
    ]
    for name, declared in ANNOTATION_FORMATS.items():
        keys = [f"**`{key}`**" if key in declared["needs"] else f"`{key}`" for key in declared["keys"]]
        described = (declared["reads"], declared["used_by"])
        lines.append(f"| `{name}` | {', '.join(keys)} | " + " | ".join(described) + " |")
    lines += [
        "",
        "## Bad input",
        "",
        "A mistake ends the run with one message: where, what was expected and found, what to do. What can be known "
        "from the config, names and headers is said before any job starts, all of it at once. What stands in the files "
        "is found by the first job that reads them, which lists what is wrong with all files of its shard; nothing is "
        "left half-written. `…/` stands for the folder, `d` for the dataset, `<...>` for the words of a library.",
    ]
    for chapter in dict.fromkeys(case.chapter for case in CASES):
        lines += ["", f"### {chapter}", "", "| case | found | message |", "|---|---|---|"]
        lines += [describe(case) for case in CASES if case.chapter == chapter]
    return "\n".join(lines) + "\n"


def describe(case: Case) -> str:
    """Return the table row of a case, with deliberately long names shortened."""
    message = case.message.replace("{name}", "d").replace("{folder}/", "…/").replace("{folder}", "…")
    message = message.replace(220 * "n", "nnn…").replace("|", r"\|")
    # two backticks, because a message may contain a backtick
    return f"| {case.name.replace('_', ' ')} | {FOUND[case.when]} | `` {message} `` |"
