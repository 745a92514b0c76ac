"""Runs jobs in other processes, on this machine or on several."""
