"""Features: log-mel and the other front ends, clips and pieces."""
