"""A trained model as a service over HTTP: its interface, batches across requests, limits."""
