"""Pictures with boxes: the formats of annotation, and the targets that a network learns from."""
