"""Explanation of faults: where the first error arises, which neurons it concerns, and what would explain it.

While a verification runs, `clues` counts the faults of each layer and keeps a bounded sample of frames. At its end
`diagnose` evaluates every layer on the observed spikes of its sources, so that only the layer that erred is at fault,
and tries `hypotheses` on it: each says what the layer would do if one thing were wrong, and is judged by how many of
the faults that explains. `records` holds what is found, `wording` says it in five lines.
"""
