"""Running graphs: what a backend must offer, finding one, frames in, spikes and answers out, and the oracle.

`strop.build` and `strop.simulate` are here. A backend of your own subclasses `strop.running.backend.Backend`
(docs/write-a-backend.md).
"""
