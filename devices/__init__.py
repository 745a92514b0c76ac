"""Devices that a network computes on: strategies, replicas, precision, memory."""
