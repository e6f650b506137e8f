"""Verification: every spike and every output compared, bounds on what rounding may change, and the verdict.

`strop.verify` is here; what it returns is a `report.Report`.
"""
