"""SpiNNaker behind PyNN: the `dialect` builds, `mapping` maps on a virtual board, `fixed_point` is its arithmetic."""
