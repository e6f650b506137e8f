"""Running graphs: interface and registry of backends, encoding, decoding, simulation, and the oracle.

`strop.build` and `strop.simulate` are here. A backend of your own subclasses `strop.running.backend.Backend`
(docs/write-a-backend.md).
"""
