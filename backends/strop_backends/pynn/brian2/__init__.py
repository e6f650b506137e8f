"""Brian2 behind PyNN: the `dialect` with the rules of Brian2, its `cells` and projections, `surroundings` for tests."""
