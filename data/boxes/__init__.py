"""Pictures with boxes: the forms in which they are annotated, and what a network learns from them."""
