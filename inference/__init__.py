"""What a trained model does: predict, say how sure it is and why, and go elsewhere."""
