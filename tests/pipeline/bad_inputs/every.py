"""All cases of bad input: those of cases.py and of the modules `*_cases.py` beside it."""

from importlib import import_module
from pathlib import Path

from pipeline.bad_inputs import cases

for path in sorted(Path(__file__).parent.glob("*_cases.py")):
    import_module(f"pipeline.bad_inputs.{path.stem}")

# each chapter in one piece, in the order of the first case of each
_CHAPTERS = list(dict.fromkeys(case.chapter for case in cases.CASES))
CASES = sorted(cases.CASES, key=lambda case: _CHAPTERS.index(case.chapter))
