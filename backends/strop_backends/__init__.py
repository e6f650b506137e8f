"""The simulators that strop ships with: one folder each, found through the entry-point group ``strop.backends``.

Every folder imports `strop`; none imports a sibling.
"""
