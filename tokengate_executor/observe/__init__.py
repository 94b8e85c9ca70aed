"""What is seen of a running executor: statistics and history."""
