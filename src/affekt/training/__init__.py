"""Training: systems, recipes and the fitting of one system on one fold."""
