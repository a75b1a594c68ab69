"""Fill the HTML templates of the pages."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cellmill.reports import wording
from cellmill.reports.colours import write_css

# Each page declares its own template.
DATA_FILES = ("templates/macros.html.jinja", "templates/report.css", "templates/report.js")
TEMPLATES_DIR = Path(__file__).parent / "templates"
ORIGIN = ("date", "commit", "machine", "python")


def render(template: str, page: Mapping[str, Any]) -> str:
    """Fill a template; all inserted values are escaped, and only our own script may run."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES_DIR),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES_DIR / "report.js").read_text(encoding="utf-8")
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(
        css=Markup(write_css() + (TEMPLATES_DIR / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=script_hash,
        say_count=wording.say_count,
        say_score=wording.say_score,
        say_interval=wording.say_interval,
        say_number_of=wording.say_number_of,
        say_list=wording.say_list,
        say_percent=wording.say_percent,
        say_percent_interval=wording.say_percent_interval,
        say_range_of_scores=wording.say_range_of_scores,
        say_mean_count=wording.say_mean_count,
    )
    return environment.get_template(template).render(page)


def known_origin(provenance: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(provenance.get(key) or "") for key in ORIGIN}
