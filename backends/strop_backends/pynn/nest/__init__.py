"""NEST behind PyNN: the `dialect` with the rules of NEST, its `cells` and projections, and `surroundings` for tests."""
