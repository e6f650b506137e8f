"""`Explanation`: what was found of a comparison that failed, in five lines and as JSON."""

from __future__ import annotations

from typing import Any

from strop.verification.explanation.records import Findings
from strop.verification.explanation.wording import five_lines


class Explanation(Findings):
    """Why one comparison failed.

    >>> print(*report.backends["brian2"].explanation.lines(), sep="\\n")
    """

    def lines(self, call: str = "") -> list[str]:
        """Return the explanation in five lines: cause, first fault, extent, origin, and what to look at next."""
        return five_lines(self, call)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "comparison": self.comparison,
            "headline": self.headline,
            "lines": self.lines(),
            "frames": self.frames,
            "faulty_frames": self.faulty_frames,
            "first_frame": self.first_frame,
            "layers": [own.to_dict() for own in self.layers],
            "outputs": [own.to_dict() for own in self.outputs],
            "followers": list(self.followers),
            "echoes": list(self.echoes),
        }
