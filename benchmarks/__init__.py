"""How good and how fast the engine is: benchmarks that run what users run."""
