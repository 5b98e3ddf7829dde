"""Prefect flows and the command line: what happens, in which order, and what the person sees."""
