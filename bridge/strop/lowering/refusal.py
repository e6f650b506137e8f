"""`Refusal`, raised by layer handlers; the driver makes an `UnsupportedLayerError` of it that names the layer."""

from __future__ import annotations


class Refusal(Exception):
    """Raised by a handler that cannot carry a layer over exactly.

    Parameters
    ----------
    reason : str
        A clause that goes on after "layer 'x' (Class):".
    advice : str
        What to do instead.
    where : str
        The layer, as "layer 'x' (Class)", where it is not the one that is being lowered.
    """

    def __init__(self, reason: str, advice: str = "", where: str = "") -> None:
        super().__init__(reason)
        self.reason, self.advice, self.where = reason, advice, where
