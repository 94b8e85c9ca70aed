"""Programs that show the executor at work on real input; they use its public verbs only."""
