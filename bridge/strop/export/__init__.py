"""Standalone exports: folders that run a network where strop is not installed, and the plain arrays in them.

`strop.export` is here.
"""
