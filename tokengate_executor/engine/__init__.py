"""The machine a token flows through: gate, lanes, router, workers, settlement."""
