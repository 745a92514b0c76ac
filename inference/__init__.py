"""A trained model at work: it predicts, says how sure it is, and shows where it looked."""
