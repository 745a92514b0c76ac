"""Where a network computes: strategies, replicas, precision, memory."""
