"""Floor 1: pure decisions. Given facts, an answer; no lock, no thread, no clock."""
