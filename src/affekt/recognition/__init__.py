"""Recognition: an exported model and recordings in, predictions, timelines and streams out."""
