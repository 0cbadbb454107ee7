"""Experiments: systems x folds x seeds, their workers, tuning, costs, and a model for use."""
