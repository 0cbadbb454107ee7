"""Data: manifests, labels, corpus readers, protocols, synthesis and the waveform cache."""
