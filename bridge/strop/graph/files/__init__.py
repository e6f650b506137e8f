"""Graphs on disk: the `.strop` file, HDF5 with one JSON document and plain arrays (docs/file-format.md).

`Graph.save` and `Graph.load` use `write` and `read`, and `layout` is what both agree on. Files are written whole or not
at all (`atomic`), and read without executing anything. `strop.graph.readers` finds readers of other graph formats.
"""
