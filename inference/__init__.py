"""Models in use: encoders exported to fast engines, sentences and their search, labels without training, masks."""
