"""The picture of a graph on a page: SVG in a data URI, which the page's policy allows for images."""

from __future__ import annotations

import base64

from strop.display.wording import plural
from strop.errors import ExtraMissingError
from strop.graph import Graph

# Larger pictures would be no pictures, and pages stay below 5 MB.
_MOST_POPULATIONS = 120


def diagram_shown(graph: Graph) -> dict[str, str]:
    """Return the image's address and what it shows; of a graph that is not drawn, the reason in `note` alone."""
    shown = {"src": "", "alt": "", "note": ""}
    number = len(graph.populations)
    if number > _MOST_POPULATIONS:
        return shown | {
            "note": f"{plural(number, 'population')} are too many for a picture here; graph.plot() draws them."
        }
    try:
        diagram = graph.plot()
    except ExtraMissingError as error:
        return shown | {"note": f"Not drawn: {error}."}
    # Base64, so that nothing in the address can be taken for markup or for a link.
    encoded = base64.b64encode(diagram.svg().encode("utf-8")).decode("ascii")
    return shown | {"src": f"data:image/svg+xml;base64,{encoded}", "alt": diagram.alt}
