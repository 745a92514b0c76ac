"""A trained model in use: predictions, confidence, and explanations."""
