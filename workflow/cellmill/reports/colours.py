"""All colours of a page that mean something: of runs, of annotations, of found and wrong objects.

A colour has one meaning on a page: a model's curves, dots and outlines on pictures share a colour, whatever their seed,
and no other thing has it. All colours stand out by at least 3 : 1 from the light and from the dark page, so that one
value serves both, paper and pictures. Runs and annotations also differ for readers who are red-blind or green-blind;
line patterns distinguish seeds, second curves of a run, and models beyond the number of colours.
"""

# Blue, olive, purple, azure, brown: chosen by a search for the largest distance of any two, also with simulated
# red-blindness and green-blindness, and from the colours of the objects below.
RUN_COLOURS = ("#3c4bff", "#969600", "#b41ea5", "#1e96f0", "#965a4b")
ANNOTATION_COLOUR = "#ff3ca5"
# SOURCE Okabe and Ito, https://jfly.uni-koeln.de/color: distinguishable with any colour vision
ERROR_COLOURS = {
    "found": "#009e73", "missed": "#d55e00", "false": "#56b4e9", "split": "#cc79a7", "merged": "#f0e442",
}  # fmt: skip
IGNORED_COLOUR = (127, 127, 127, 150)  # red, green, blue, alpha
# Lengths of dashes and gaps; the first pattern is a solid line.
PATTERNS = ("", "6 3", "2 3", "9 3 2 3", "13 3")
ANNOTATION_STYLE, NEUTRAL_STYLE, PALE_STYLE = "truth", "muted", "pale"


def style_of_model(index: int) -> str:
    """Return the CSS classes of the model with this position in the config; after all colours, a pattern is added."""
    cycle, colour = divmod(index, len(RUN_COLOURS))
    return with_pattern(f"s{colour}", cycle)


def with_pattern(style: str, index: int) -> str:
    """Return the CSS classes of another line of a run: its colour, in the pattern with this number."""
    colour, number = style.partition(" ")[0], index % len(PATTERNS)
    return f"{colour} d{number}" if number else colour


def colour_of_style(style: str) -> str:
    """Return the colour of a run's CSS classes, "#rrggbb"."""
    return RUN_COLOURS[int(style.partition(" ")[0].removeprefix("s"))]


def write_css() -> str:
    """Write the style sheet of the colours and line patterns."""
    values = {f"s{number}": colour for number, colour in enumerate(RUN_COLOURS)}
    values |= {ANNOTATION_STYLE: ANNOTATION_COLOUR, **ERROR_COLOURS}
    lines = [":root { " + " ".join(f"--{name}: {colour};" for name, colour in values.items()) + " }"]
    lines += [f".{name} {{ --c: var(--{name}); }}" for name in values]
    lines += [f".plot .d{number} {{ stroke-dasharray: {dashes}; }}" for number, dashes in enumerate(PATTERNS) if dashes]
    return "\n".join(lines) + "\n"
